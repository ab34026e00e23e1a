"""JSON as text for people: indented, coloured, and not longer than a page should be."""

import json
import re
from typing import Any, NamedTuple

from markupsafe import Markup

MOST = 1500  # characters
_TOKEN = re.compile(r'("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
# Characters that reorder a line or cannot be sent: in JSON, they have another form.
_HIDDEN = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SPAN = Markup('<span class="json-{}">{}</span>')


class JsonText(NamedTuple):
    """`size` is in characters; `is_cut`: the text has only the first MOST of them."""

    text: Markup
    size: int
    is_cut: bool


def json_text(value: Any) -> JsonText:
    text = visible(json.dumps(value, indent=2, ensure_ascii=False))
    return JsonText(_coloured(text[:MOST]), len(text), len(text) > MOST)


def visible(text: str) -> str:
    """Return a JSON text with the escapes of characters that reorder a line or cannot be sent."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _coloured(text: str) -> Markup:
    parts: list[str] = []
    end = 0
    for found in _TOKEN.finditer(text):
        string, colon, word = found.groups()
        kind = ("key" if colon else "text") if string else "word" if word else "number"
        parts += (Markup.escape(text[end : found.start()]), _SPAN.format(kind, string or found[0]), colon or "")
        end = found.end()
    return Markup("").join((*parts, text[end:]))
