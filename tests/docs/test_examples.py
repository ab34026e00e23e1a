"""Every `$ curl …` of the pages is sent to the service, in the page's order, and is answered as the page says.

`…` in an answer stands for what is left out. A block that cannot be replayed says why: `<!-- not replayed: reason -->`.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from quart.typing import TestClientProtocol as Client

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!-- not replayed: (?P<reason>.+) -->\n)?```(?:console|sh)\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL
)
_COMMAND = re.compile(r"^\$ (?P<command>.+)\n(?P<answer>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_FILTERED = re.compile(r"(?P<curl>.+?) \| grep -o '(?P<pattern>[^']+)'")
_SERVICE = re.compile(r"(?:http://)?127\.0\.0\.1:8000")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What differs from one call to the next; that it is there still counts.
_MOMENTARY = re.compile(
    rf'{_UUID.pattern}|\b[0-9a-f]{{32}}\b|\d{{4}}-\d\d-\d\dT[\d:.]+Z|(?<=elapsed":)[\d.]+|(?<="version":")[^"]+'
)


class Example(NamedTuple):
    command: str
    answer: str


def examples(page: Path) -> Iterator[Example]:
    for block in _BLOCK.finditer(page.read_text("utf-8")):
        for found in _COMMAND.finditer(block["lines"]):
            if "curl " in found["command"] and not block["reason"]:
                yield Example(found["command"], found["answer"].rstrip("\n"))


def request_of(command: str) -> tuple[str, str, dict[str, str], str | None]:
    """Method, path, headers and body of a curl command. Fails where it does more than this test can do as well."""
    words = iter(shlex.split(command))
    assert next(words) == "curl", f"mark its block as not replayed, with the reason: {command}"
    method, path, headers, body = "", "", {}, None
    for word in words:
        match word:
            case "-s" | "-N" | "-sN":
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
                assert _SERVICE.match(word), f"mark its block as not replayed, with the reason: {command}"
                path = _SERVICE.sub("", word, count=1)
    return method or ("POST" if body else "GET"), path, headers, body


def assert_shows(shown: str, answer: str) -> None:
    """`answer` is what is `shown`, but for what is momentary and for what `…` leaves out."""
    parts = [re.escape(_MOMENTARY.sub("*", part)) for part in shown.split("…")]
    assert re.fullmatch(".*".join(parts), _MOMENTARY.sub("*", answer.rstrip("\n")), re.DOTALL), (shown, answer)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(examples(page))], ids=lambda page: page.name)
async def test_the_service_answers_as_the_page_says(client: Client, page: Path) -> None:
    ours: dict[str, str] = {}  # the ids that the page shows, and those of this run
    for command, shown in examples(page):
        filtered = _FILTERED.fullmatch(command)
        method, path, headers, body = request_of(filtered["curl"] if filtered else command)
        path = _UUID.sub(lambda found: ours.get(found[0], found[0]), path)
        response = await getattr(client, method.lower())(path, headers=headers, data=body)
        answer = str(await response.get_data(as_text=True))
        if filtered:
            answer = "\n".join(re.findall(filtered["pattern"], answer))
        assert_shows(shown, answer)
        ours.update(zip(_UUID.findall(shown), _UUID.findall(answer), strict=False))


def test_no_page_adds_a_user_whom_another_page_has_added() -> None:
    """Whoever follows several pages on one database would get 409."""
    emails = [
        email
        for page in PAGES
        for command, _ in examples(page)
        if "/add-user" in command
        for email in re.findall(r"[\w.]+@[\w.]+", command)
    ]
    assert sorted(emails) == sorted(set(emails))


def test_no_page_lists_migrations_that_the_next_one_makes_incomplete() -> None:
    for page in PAGES:
        for applied in re.findall(r"^applied .*", page.read_text("utf-8"), re.MULTILINE):
            assert applied == "applied 0001_initial, …", page


def test_no_page_kills_a_process_whose_number_it_does_not_show() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        for killed in re.finditer(r"^\$ kill .*\b(\d+)$", text, re.MULTILINE):
            assert f"pid {killed[1]}," in text[: killed.start()], page


def test_no_page_installs_the_package_from_an_index_that_does_not_have_it() -> None:
    for page in PAGES:
        assert not re.search(r"pip install [^\n/]*\bquart-async-api\b", page.read_text("utf-8")), page
