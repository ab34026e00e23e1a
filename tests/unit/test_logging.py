"""The log: a line is an event, and nothing that was sent can forge another."""

import contextvars
import json
import logging
import os
import sys
import unicodedata
from datetime import UTC, datetime

import pytest

from quart_async_api import Settings
from quart_async_api.observability.logging import JsonFormatter, TextFormatter, logged_if_unconfigured
from quart_async_api.observability.tracing import RequestContext, RunContext, enter

FORGED = "boom\n12:00:00.000 info    GET /admin 200\x1b[32m\r\x9b31m\x7f\u2028\u202e"


@pytest.fixture(scope="module")
def unprintable() -> str:
    """Every control character, separator of lines, mark of direction and unpaired surrogate that there is."""
    characters = map(chr, range(sys.maxunicode + 1))
    return "".join(char for char in characters if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs"))


def record(text: str) -> logging.LogRecord:
    """An event with `text` wherever an event can hold some."""
    try:
        raise ValueError(text) from RuntimeError(text)
    except ValueError:
        fault = sys.exc_info()
    made = logging.LogRecord("a", logging.INFO, "", 0, "%s", (text,), fault)
    made.__dict__ |= {"ms": 1, "request_id": text, "key": text, "path": text, "odd": ValueError(text)}
    return made


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_text_that_was_sent_coloured_the_log_or_hid_a_line(formatter: logging.Formatter, unprintable: str) -> None:
    for text in (FORGED, unprintable):
        written = formatter.format(record(text))
        assert not set(written) & set(unprintable) - {"\n"}


def test_the_text_of_an_exception_forged_a_line_of_the_log() -> None:
    first, *others = TextFormatter().format(record(FORGED)).split("\n")
    assert " info " in first
    assert others
    assert all(line.startswith("    | ") for line in others)


def test_a_json_line_is_one_line_with_all_that_was_sent() -> None:
    line = JsonFormatter().format(record(FORGED))
    assert "\n" not in line
    assert json.loads(line)["message"] == FORGED


@pytest.mark.parametrize("created", [1_700_000_000.0, 1_700_000_000.9996, 1_700_000_000.9999999, 1_700_000_001.123456])
def test_the_time_of_a_line_is_that_of_its_event(created: float) -> None:
    event = record("text")
    event.created = created
    exact = datetime.fromtimestamp(created, UTC)
    assert json.loads(JsonFormatter().format(event))["time"] == exact.isoformat(timespec="milliseconds")
    assert TextFormatter().format(event).startswith(exact.astimezone().strftime("%H:%M:%S.%f")[:-3] + f" {os.getpid()}")


def test_a_line_did_not_name_its_process_its_request_or_its_job() -> None:
    plain = logging.makeLogRecord({"msg": "hello", "levelname": "INFO"})
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    job = "0199c0de-0000-7000-8000-000000000001"
    assert json.loads(JsonFormatter().format(plain))["pid"] == os.getpid()
    for context, named in (
        (RequestContext("mine-1", trace), {"request_id": "mine-1"}),
        (RunContext(job, trace), {"job_id": job}),
    ):

        def written(formatter: logging.Formatter, context: RequestContext | RunContext = context) -> str:
            enter(context)
            return formatter.format(plain)

        line = json.loads(contextvars.copy_context().run(written, JsonFormatter()))
        assert line.items() >= {**named, "trace_id": "ab" * 16}.items()
        text = contextvars.copy_context().run(written, TextFormatter())
        assert text.endswith(f"hello [{next(iter(named.values()))}]")


def test_an_app_logs_by_itself_only_where_nothing_else_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    root, package = logging.getLogger(), logging.getLogger("quart_async_api")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(package, "handlers", [])
    with logged_if_unconfigured(Settings()):
        assert [type(handler.formatter) for handler in root.handlers] == [TextFormatter]
        assert package.isEnabledFor(logging.INFO)
        with logged_if_unconfigured(Settings()):  # a second app in the process
            assert len(root.handlers) == 1
    assert root.handlers == []
    assert package.level == logging.NOTSET
    for configured in (root, package):
        configured.addHandler(logging.NullHandler())
        with logged_if_unconfigured(Settings()):
            assert len(root.handlers) + len(package.handlers) == 1
            assert package.level == logging.NOTSET
        configured.handlers.clear()
