"""The log: one line per event on standard error, as text or JSON."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from ..settings import LogFormat, Settings
from .tracing import RequestContext, current

# What a LogRecord has by itself; whatever else it carries came in as `extra` and is data of the event.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_pid = os.getpid()
_worker: dict[str, object] = {}  # the `worker` of this process, once it is registered


def _forked() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)

_encode = json.JSONEncoder(default=str).encode

_IN_TRACEBACK = "    | "  # before each line, so that no text of an exception looks like a line of the log


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, process, the request or job in which it was written, the data
    of the event, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": "{}.{:03}+00:00".format(*_moment(record, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": _pid,
            **_worker,
            **_origin(),
            **_data(record),
        }
        if record.exc_info and record.exc_info[0]:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return _encode(entry).replace("\x7f", "\\u007f")  # the only control character that JSON allows


class TextFormatter(logging.Formatter):
    """`12:00:00.000 4242/1f2e3d4c info    GET /test 200 5003.1 ms [request id]`; a traceback is indented below it.

    `4242/1f2e3d4c` is the process: its pid, and the end of its worker's id.

    What is not printable is escaped everywhere: control characters, separators of lines, marks of direction.
    """

    def format(self, record: logging.LogRecord) -> str:
        second, milliseconds = _moment(record)
        data = vars(record)
        message = record.getMessage()
        if "ms" in data:
            message += f" {data['ms']} ms [{data['request_id']}]" + (f" {data['key']}" if "key" in data else "")
        elif (origin := _origin_id()) and origin not in message:
            message += f" [{origin}]"
        process = f"{_pid}{_short_worker()}"
        line = f"{second[-8:]}.{milliseconds:03} {process} {record.levelname.lower():7} {_one_line(message)}"
        if "stack" in data:
            line += "".join(f"\n{_IN_TRACEBACK}{_one_line(each)}" for each in data["stack"].rstrip("\n").split("\n"))
        if record.exc_info and record.exc_info[0]:
            lines = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n").split("\n")
            line += "".join(f"\n{_IN_TRACEBACK}{_one_line(each)}" for each in lines)
        return line


def _moment(record: logging.LogRecord, zone: tzinfo | None = None) -> tuple[str, int]:
    """Return the time of a record, in the local zone by default: `2026-11-21T12:00:00`, and milliseconds."""
    seconds, microseconds = divmod(round(record.created * 1_000_000), 1_000_000)
    return _second(seconds, zone), microseconds // 1000


@lru_cache(maxsize=2)
def _second(seconds: int, zone: tzinfo | None) -> str:
    # A busy service writes thousands of lines a second, and this takes longer than the rest of a line.
    return datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%dT%H:%M:%S")


def _data(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def set_worker(worker: str) -> None:
    """Name the worker of this process in each line from now on. With several apps in a process, it is the last one's."""
    _worker["worker"] = worker


def _short_worker() -> str:
    return f"/{str(_worker['worker'])[-8:]}" if _worker else ""


def _origin() -> dict[str, object]:
    context = current()
    if context is None:
        return {}
    if isinstance(context, RequestContext):
        return {"request_id": context.request_id, "trace_id": context.trace_id}
    return {"job_id": context.job_id, "trace_id": context.trace_id}


def _origin_id() -> str | None:
    context = current()
    return None if context is None else context.request_id if isinstance(context, RequestContext) else context.job_id


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _handler(settings: Settings) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format is LogFormat.JSON else TextFormatter())
    return handler


@contextmanager
def logged(settings: Settings) -> Iterator[None]:
    """Send the log of the package to standard error inside: for a command."""
    package, handler = logging.getLogger(__name__.partition(".")[0]), _handler(settings)
    level = package.level
    package.addHandler(handler)
    package.setLevel(settings.log_level.upper())
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


@contextmanager
def logged_if_unconfigured(settings: Settings) -> Iterator[None]:
    """Send the log to standard error inside, unless the process has a handler: for the commands of other servers."""
    root, package = logging.getLogger(), logging.getLogger(__name__.partition(".")[0])
    if package.hasHandlers():
        yield
        return
    handler, level = _handler(settings), package.level
    root.addHandler(handler)  # the level of the root logger stays: other libraries log only warnings and errors
    package.setLevel(settings.log_level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(level)


def configure(settings: Settings) -> None:
    """Send the log to standard error in the configured format, and remove other handlers: for `serve`."""
    # The formats know the process, and show no thread; to ask for them in each line takes a third of its time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=settings.log_level.upper(), handlers=[_handler(settings)], force=True)
    # The service logs requests itself.
    for name in ("hypercorn", "httpx", "httpx_retries", "tortoise", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
