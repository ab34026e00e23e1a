"""The answers that the pages show are those that the service gives."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from quart.typing import TestClientProtocol as Client

ROOT = Path(__file__).parents[2]
SERVICE = "http://127.0.0.1:8000"

# The other pages show services with tasks or settings of their own, or what depends on the moment.
PAGES = ("README.md", "docs/tutorial/from-flask.md", "docs/how-to/run.md")

_EXAMPLE = re.compile(r"^\$ (?P<command>curl [^|&\n]+)\n(?P<answer>[{\[].*)$", re.MULTILINE)
_MOMENTARY = {"id", "request_id", "elapsed", "created_at", "run_at", "started_at", "finished_at"}
_JOB = re.compile(r"/jobs/[0-9a-f-]{36}")


EXAMPLES = [
    pytest.param(found["command"], found["answer"], id=f"{name}: {found['command'][:70]}")
    for name in PAGES
    for found in _EXAMPLE.finditer((ROOT / name).read_text("utf-8"))
    if "/jobs/" not in found["command"]  # a job of another day
    and "…" not in found["answer"]  # cut short for the page
]


def comparable(value: Any) -> Any:
    """`value` without what differs from one call to the next; that it is there still counts."""
    if isinstance(value, dict):
        return {key: "…" if key in _MOMENTARY else comparable(member) for key, member in value.items()}
    if isinstance(value, str):
        return _JOB.sub("/jobs/…", value)
    return [comparable(item) for item in value] if isinstance(value, list) else value


def request_of(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Method, path, headers and body of a curl command."""
    words = iter(shlex.split(command)[1:])
    method, path, headers, body = "", "", {}, None
    for word in words:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d" | "--json":
                body = next(words)
                if word == "--json":
                    headers["Content-Type"] = "application/json"
            case _:
                assert word.startswith(SERVICE)
                path = word.removeprefix(SERVICE)
    return method or ("POST" if body else "GET"), path, headers, body


@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
async def test_the_service_answers_as_the_page_says(client: Client, command: str, answer: str) -> None:
    method, path, headers, body = request_of(command)
    response = await getattr(client, method.lower())(path, headers=headers, data=body)
    assert comparable(json.loads(await response.get_data())) == comparable(json.loads(answer))
