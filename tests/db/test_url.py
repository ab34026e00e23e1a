"""Which URLs are taken, what becomes of them, and what an unusable one is told."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_async_api.db.migration import upgrade
from quart_async_api.db.packages import OF_THE_SERVICE
from quart_async_api.db.url import parse
from quart_async_api.errors import SettingsError


def credentials(url: str) -> dict[str, Any]:
    [connection] = parse(url).config()["connections"].values()
    found: dict[str, Any] = connection["credentials"]
    return found


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite://a.db", "a.db"),
        ("sqlite://b/a.db", "b/a.db"),
        ("sqlite:///b/a.db", "/b/a.db"),
        ("sqlite:////b/a.db", "/b/a.db"),
    ],
)
def test_three_slashes_are_absolute_and_two_relative(url: str, file: str) -> None:
    assert credentials(url)["file_path"] == file
    assert parse(url).printable == url


async def test_a_relative_file_with_odd_characters_is_the_one_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic = replace(OF_THE_SERVICE, migrations="tests.db.synthetic_migrations")
    await upgrade("sqlite://a %41#\N{SNOWMAN}.db", (synthetic,))
    assert os.listdir() == ["a %41#\N{SNOWMAN}.db"]


def test_sqlite_is_safe_on_disk_and_waits_for_locks() -> None:
    own = ("file_path", "journal_size_limit")
    pragmas = {key: value for key, value in credentials("sqlite://a.db").items() if key not in own}
    assert pragmas == {"busy_timeout": 10_000, "journal_mode": "WAL", "synchronous": "FULL", "foreign_keys": "ON"}
    assert credentials("sqlite://a.db?timeout=0.5")["busy_timeout"] == 500


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://h/n", {"host": "h", "port": 5432, "user": None, "password": None, "database": "n"}),
        ("postgresql://u:p@h:6543/n", {"host": "h", "port": 6543, "user": "u", "password": "p"}),
        ("postgresql://u:p%40%2F%3A%23@h/n", {"password": "p@/:#"}),
        ("postgresql://u@[::1]:1234/n", {"host": "::1", "port": 1234}),
        ("postgresql://u@/n?host=/var/run/postgresql", {"host": "/var/run/postgresql", "database": "n"}),
        (
            "postgresql://h/n?sslmode=verify-full&sslrootcert=/ca.pem",
            {"server_settings": {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}},
        ),
        ("postgresql://h/n", {"timeout": 5.0, "application_name": "quart-async-api"}),
        (
            "postgresql://h/n?timeout=2&application_name=x",
            {"timeout": 2.0, "application_name": "x", "server_settings": {}},
        ),
        ("postgresql://h/n%20m", {"database": "n m"}),
    ],
)
def test_postgresql_urls_are_taken_apart(url: str, expected: dict[str, Any]) -> None:
    found = credentials(url)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("url", "printable"),
    [
        ("postgres://u:secret@h:1/n?sslmode=require", "postgresql://u@h:1/n"),
        ("postgresql://u:secret@[::1]/n", "postgresql://u@[::1]/n"),
        ("postgresql:///n?host=/run/pg", "postgresql:///n?host=/run/pg"),
    ],
)
def test_what_is_printed_has_no_password(url: str, printable: str) -> None:
    assert parse(url).printable == printable


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "sqlite://relative.db"),
        ("secret", "postgresql://"),
        ("mysql://u:secret@h/n", "must be `sqlite://"),
        ("sqlite:secret.db", "must be `sqlite://"),
        ("sqlite://", "must name a file"),
        ("sqlite://:memory:", "must name a file"),
        ("sqlite://a.db?synchronous=OFF", "unknown parameter; there are timeout"),
        ("sqlite://a.db?timeout=soon", "timeout must be seconds"),
        ("postgresql://u:secret@h:1", "must name the database"),
        ("postgresql://u:secret@h/", "must name the database"),
        ("postgresql://u:secret@h/a/b", "must name the database"),
        ("postgresql://u:secret@h/n?ssl=secret", "unknown parameter; there are application_name"),
        ("postgresql://u:secret@h/n?timeout=-1", "timeout must be seconds"),
        ("postgresql://u:secret@h/n?timeout=nan", "timeout must be seconds"),
        ("postgresql://u:secret#secret@h/n", "%40"),
        ("postgresql://u:secret[secret@h/n", "%40"),
        ("postgresql://u@h:secret/n", "%40"),
        ("postgresql://u@h:99999/n", "%40"),
        ("postgresql://h/n#secret", "must name the database"),
    ],
)
def test_an_unusable_url_is_told_so_in_one_line_without_its_password(url: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.one_of(st.text(), st.text().map(lambda text: "sqlite://" + text), st.text().map(lambda t: "postgresql://" + t))
)
def test_any_text_is_a_database_or_a_settings_error(text: str) -> None:
    try:
        parse(text).config()
    except SettingsError as error:
        lines = str(error).splitlines()
    else:
        lines = [""]
    assert len(lines) == 1


def test_postgresql_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(SettingsError, match=r"pip install \'psycopg\[binary,pool\]\'"):
        parse("postgresql://h/n")
