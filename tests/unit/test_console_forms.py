"""The fields that the console makes of arguments: a form that nobody has changed sends the same ones."""

import pytest

from quart_async_api.web.forms import arguments_of, as_sent, fields_of

TEXT = {"properties": {"text": {"type": "string", "default": "another"}}}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("two\nlines", "text"),
        (" beside ", "text"),
        ("", "json"),  # it was the default
        ("two\r\nlines", "json"),
        ("a \0", "json"),
    ],
)
def test_a_text_that_a_browser_would_change_is_shown_as_json(text: str, kind: str) -> None:
    fields = fields_of(TEXT, {"text": text})
    assert [field.kind for field in fields] == [kind]
    sent = {field.id: field.value.replace("\n", "\r\n") for field in fields}  # as browsers do
    assert arguments_of(as_sent(fields, sent)) == ({"text": text}, [])
