"""A start that cannot be: one clear line, an exit code that says so, and nothing touched."""

import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import server_process
from tests.in_process import invoke
from tests.process.conftest import ALL_MIGRATIONS, HYPERCORN_TOML, Start
from tests.process.wire import get
from tests.server_process import PROGRAM

pytestmark = pytest.mark.process

SERVE = (*PROGRAM, "serve", "--bind", "127.0.0.1:0")
LACKING = f"the database lacks {ALL_MIGRATIONS}: run `quart-async-api migrate`"
LIMIT = 60.0  # seconds; whoever needs longer hangs


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    errors: str


def run(folder: Path, *command: str | Path, **settings: str) -> Outcome:
    ended = server_process.run(command, folder, settings, timeout=LIMIT)
    assert ended.stdout == ""
    return Outcome(ended.returncode, ended.stderr)


def run_here(*arguments: str, **settings: str) -> Outcome:
    """The command in this process: for what it refuses before it starts anything."""
    ended = invoke(*arguments, **settings)
    assert ended.stdout == ""
    return Outcome(ended.exit_code, ended.stderr)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(folder: Path, command: Sequence[str | Path] = SERVE, **settings: str) -> str:
    """The one line with which the start was refused, without its `error: `; nothing may have been touched."""
    before = contents(folder)
    line = the_line(run(folder, *command, **settings))
    assert contents(folder) == before
    return line


def the_line(outcome: Outcome) -> str:
    assert outcome.code == 1, outcome.errors
    assert outcome.errors.startswith("error: "), outcome.errors
    assert outcome.errors.count("\n") == 1, outcome.errors
    return outcome.errors.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# The address


def test_a_taken_port_is_told_and_the_database_is_left_alone(database_file: Path, taken_port: int) -> None:
    os.utime(database_file, (1, 1))
    line = refused(
        database_file.parent,
        (*PROGRAM, "serve", "--bind", f"127.0.0.1:{taken_port}"),
        QAA_DATABASE_URL=f"sqlite://{database_file}",
    )
    assert line == (
        f"cannot listen on 127.0.0.1:{taken_port}: address already in use; name another with --bind HOST:PORT"
    )
    assert database_file.stat().st_mtime == 1


def test_a_second_server_on_a_port_goes_and_the_first_one_stays(
    start: Start, migrated_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = start()
    other = Path(shutil.copy(migrated_file, tmp_path_factory.mktemp("second") / "app.db"))
    command = (*PROGRAM, "serve", "--bind", f"127.0.0.1:{first.port}")
    assert "address already in use" in refused(other.parent, command, QAA_DATABASE_URL=f"sqlite://{other}")
    assert get(first.port, "/users").json == []
    assert first.stop() == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])  # noqa: S104
def test_an_address_that_others_reach_wants_to_be_meant(database_file: Path, host: str) -> None:
    line = refused(
        database_file.parent,
        (*PROGRAM, "serve", "--bind", f"{host}:0"),
        QAA_DATABASE_URL=f"sqlite://{database_file}",
    )
    assert "QAA_ALLOW_ANONYMOUS=1" in line
    assert "127.0.0.1" in line


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid", "256.1.1.1", "a" * 300])
def test_an_address_that_is_not_here_is_told(database_file: Path, host: str) -> None:
    line = refused(
        database_file.parent,
        (*PROGRAM, "serve", "--bind", f"{host}:0"),
        QAA_DATABASE_URL=f"sqlite://{database_file}",
        QAA_ALLOW_ANONYMOUS="1",
    )
    assert line.startswith(f"cannot listen on {host}:0: ")


@pytest.mark.parametrize(
    "bind",
    [
        "", "127.0.0.1", ":8000", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٣",
        "::1:8000", "[::1]", "[::1:8000", "::1]:8000", "[]:8000", "http://127.0.0.1:8000", "a b:8000", "[localhost]:8000",
        "*:8000",
    ],
)  # fmt: skip
def test_a_bind_that_is_no_address_is_a_mistake_in_usage(tmp_path: Path, bind: str) -> None:
    outcome = run_here("serve", "--bind", bind)
    assert outcome.code == 2
    assert "is not HOST:PORT, like 127.0.0.1:8000 or [::1]:8000" in outcome.errors
    assert contents(tmp_path) == {}


# The database


def test_a_database_that_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    line = refused(tmp_path)
    assert line == "there is no database quart_async_api.db yet: run `quart-async-api migrate`"


def empty(file: Path) -> str:
    sqlite3.connect(file).close()
    file.touch()
    return LACKING


def of_another_program(file: Path) -> str:
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE of_another_program (id INTEGER)")
    database.close()
    return LACKING


def without_its_history(file: Path) -> str:
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE tortoise_migrations")
    database.close()
    return LACKING


def of_a_newer_version(file: Path) -> str:
    with sqlite3.connect(file) as database:
        database.execute(
            "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('quart_async_api', '9999_future', 'now')"
        )
    database.close()
    return "the database is newer than this program, by 9999_future: upgrade the program"


@pytest.mark.parametrize("prepare", [empty, of_another_program], ids=lambda prepare: prepare.__name__)
def test_a_database_that_was_never_migrated_is_told(tmp_path: Path, prepare: Callable[[Path], str]) -> None:
    expected = prepare(tmp_path / "app.db")
    assert told_about_database(tmp_path / "app.db") == expected


@pytest.mark.parametrize("change", [without_its_history, of_a_newer_version], ids=lambda change: change.__name__)
def test_a_database_of_another_version_is_told(database_file: Path, change: Callable[[Path], str]) -> None:
    expected = change(database_file)
    assert told_about_database(database_file) == expected


def told_about_database(file: Path) -> str:
    """As `refused`, for a database of which SQLite may keep its own record that it was opened: WAL, once and for all."""
    line = the_line(run(file.parent, *SERVE, QAA_DATABASE_URL=f"sqlite://{file}"))
    assert set(contents(file.parent)) == {file.name}
    return line


def test_a_folder_that_does_not_exist_is_told_and_not_made(tmp_path: Path) -> None:
    line = refused(tmp_path, QAA_DATABASE_URL="sqlite://nowhere/app.db")
    assert line == "cannot use sqlite://nowhere/app.db: there is no folder nowhere"


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "app.db").mkdir()
    assert refused(tmp_path, QAA_DATABASE_URL="sqlite://app.db").endswith("it is no file")


@pytest.mark.parametrize("content", [b"Dear diary,\n" * 1000, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_file_that_is_no_database_is_told_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "app.db").write_bytes(content)
    line = refused(tmp_path, QAA_DATABASE_URL="sqlite://app.db")
    assert line.startswith("cannot use sqlite://app.db: the database is ")


# Root writes where it may not; without this capability it does not.
AS_ANYONE = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-all") if os.geteuid() == 0 else ()


@pytest.mark.skipif(bool(AS_ANYONE) and not shutil.which("setpriv"), reason="root cannot be kept from writing here")
@pytest.mark.parametrize("guarded", ["file", "folder", "both"])
def test_a_database_that_may_not_be_written_is_told(database_file: Path, guarded: str) -> None:
    if guarded != "folder":
        database_file.chmod(0o444)
    if guarded != "file":
        database_file.parent.chmod(0o555)
    try:
        line = refused(database_file.parent, (*AS_ANYONE, *SERVE), QAA_DATABASE_URL=f"sqlite://{database_file}")
    finally:
        database_file.parent.chmod(0o755)
    assert line.startswith(f"cannot use sqlite://{database_file}: the database ")
    assert "writ" in line or "opened" in line


def test_a_postgresql_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    line = refused(tmp_path, QAA_DATABASE_URL="postgresql://ada:lovelace@127.0.0.1:1/x")
    assert line.startswith("cannot use postgresql://ada@127.0.0.1:1/x: the database failed: ")
    assert "refused" in line
    assert "lovelace" not in line


# The settings: they are read before anything starts, and by each command in the same way


def refused_here(folder: Path, **settings: str) -> str:
    """As `refused`, in this process."""
    before = contents(folder)
    line = the_line(run_here(*SERVE[3:], **settings))
    assert contents(folder) == before
    return line


WRONG: Sequence[tuple[Mapping[str, str], str]] = [
    ({"QAA_DELYA": "1"}, "QAA_DELYA is not a setting; there are QAA_ALLOWED_HOSTS, "),
    ({"QAA_DELAY": "soon"}, "QAA_DELAY: "),
    ({"QAA_DELAY": "-1"}, "QAA_DELAY: "),
    ({"QAA_DELAY": "nan"}, "QAA_DELAY: "),
    ({"QAA_DELAY": "1\n2"}, "QAA_DELAY: "),
    ({"QAA_MAX_BODY_BYTES": "1"}, "QAA_MAX_BODY_BYTES: "),
    ({"QAA_ALLOW_ANONYMOUS": "perhaps"}, "QAA_ALLOW_ANONYMOUS: "),
    ({"QAA_LOG_FORMAT": "xml"}, "QAA_LOG_FORMAT: "),
    ({"QAA_COMIC_BASE_URL": "xkcd.com"}, "QAA_COMIC_BASE_URL: must be an http:// or https:// URL"),
    ({"QAA_COMIC_BASE_URL": "http://[::1"}, "QAA_COMIC_BASE_URL: "),
    ({"QAA_TRUSTED_PROXIES": "10.0.0.0/8,me"}, "QAA_TRUSTED_PROXIES: "),
    ({"QAA_DATABASE_URL": "mysql://root:secret@x/y"}, "the database URL must be "),
    ({"QAA_DATABASE_URL": "sqlite://:memory:"}, "the database URL must name a file"),
    ({"QAA_DATABASE_URL": "sqlite://"}, "the database URL must name a file"),
    ({"DATABASE_URL": "nonsense"}, "the database URL must be "),
    ({"QAA_DATABASE_URL": "postgresql://ada:secret@h:port/x"}, "the database URL must be "),
]


@pytest.mark.parametrize(("settings", "expected"), WRONG, ids=[" ".join(settings) for settings, _ in WRONG])
def test_a_wrong_setting_is_named_with_what_is_wrong(
    tmp_path: Path, settings: Mapping[str, str], expected: str
) -> None:
    line = refused_here(tmp_path, **settings)
    assert line.startswith(expected)
    assert "secret" not in line


@pytest.mark.parametrize("content", ["QAA_DELAY=soon", "QAA_DELYA=1", "export QAA_DELAY='soon'"])
def test_a_wrong_line_of_the_env_file_is_told_as_well(tmp_path: Path, content: str) -> None:
    (tmp_path / ".env").write_text(content)
    assert refused_here(tmp_path).startswith("QAA_DEL")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00Q", b"\0\0\0"], ids=["UTF-16", "NUL"])
def test_an_env_file_that_is_no_text_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".env").write_bytes(content)
    refused_here(tmp_path)


def test_migrate_refuses_a_wrong_setting_in_the_same_words(tmp_path: Path) -> None:
    assert refused(tmp_path, (*PROGRAM, "migrate"), QAA_DELAY="soon").startswith("QAA_DELAY: ")


# Plain Hypercorn

HYPERCORN = (*PROGRAM[:2], "hypercorn", "-c", HYPERCORN_TOML, "quart_async_api.asgi:app", "--bind")
FAILURES: Sequence[Mapping[str, str]] = [
    {},
    {"QAA_DELAY": "soon"},
    {"QAA_DATABASE_URL": "sqlite://nowhere/app.db"},
    {"QAA_DATABASE_URL": "postgresql://127.0.0.1:1/x"},
]


@pytest.mark.parametrize(
    "settings",
    # As it starts, and as it imports the app; each takes two interpreters, and the others fail in the same place.
    [
        *FAILURES[:2],
        *(pytest.param(each, marks=pytest.mark.soak) for each in FAILURES[2:]),
    ],
    ids=[" ".join(settings.values()) or "no migration" for settings in FAILURES],
)
def test_plain_hypercorn_fails_with_an_exit_code_too(tmp_path: Path, settings: Mapping[str, str]) -> None:
    outcome = run(tmp_path, *HYPERCORN, "127.0.0.1:0", **settings)
    assert outcome.code not in (0, -signal.SIGKILL), outcome.errors
    assert contents(tmp_path) == {}


def test_plain_hypercorn_fails_on_a_taken_port(database_file: Path, taken_port: int) -> None:
    before = contents(database_file.parent)
    outcome = run(
        database_file.parent,
        *HYPERCORN,
        f"127.0.0.1:{taken_port}",
        QAA_DATABASE_URL=f"sqlite://{database_file}",
    )
    assert outcome.code != 0
    assert "in use" in outcome.errors
    assert contents(database_file.parent) == before
