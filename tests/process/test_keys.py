"""`quart-async-api keys` and `webhooks` beside running servers."""

import asyncio
import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from quart_async_api import Settings
from quart_async_api.commands.connected import connected
from quart_async_api.jobs.ids import new_id
from quart_async_api.jobs.states import JobRecord, Status
from quart_async_api.moments import later, timestamp
from tests.in_process import invoke
from tests.process.conftest import Start, serve
from tests.process.wire import exchange, head
from tests.secrets import secret
from tests.server_process import PROGRAM, ServerProcess, run

pytestmark = pytest.mark.process


@dataclass(frozen=True, slots=True)
class CommandLine:
    database: Path

    def __call__(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = run((*PROGRAM, *words), self.database.parent, {"QAA_DATABASE_URL": f"sqlite://{self.database}"})
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
        return ended

    def here(self, *words: str, code: int = 0, typed: str | None = None) -> Result:
        """The same in this process, which is quicker."""
        ended = invoke(*words, typed=typed, QAA_DATABASE_URL=f"sqlite://{self.database}")
        assert ended.exit_code == code, ended.output
        return ended

    def json(self, *words: str) -> Any:
        ended = self.here(*words, "--json")
        assert all(" info    " in line for line in ended.stderr.splitlines())  # of the audit log
        return json.loads(ended.stdout)

    def create(self, *words: str) -> str:
        return secret(json.loads(self("keys", "create", "--json", *words).stdout)["key"])


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "app.db")


def status(server: ServerProcess, key: str | None = None, target: str = "/users") -> int:
    fields = () if key is None else (f"Authorization: Bearer {key}",)
    return exchange(server.port, head("GET", target, *fields)).status


def test_keys_count_at_once_in_every_running_process(
    start: Start, tmp_path: Path, migrated_file: Path, command_line: CommandLine
) -> None:
    with serve(tmp_path, migrated_file) as second:
        first = start()
        assert status(first) == status(second) == 200
        key = command_line.create("--name", "ada")
        for server in (first, second):
            assert status(server) == 401
            assert status(server, key) == 200
        assert "still need a key" in command_line("keys", "revoke", "ada").stdout
        for server in (first, second):
            assert status(server, key) == 401
            assert status(server) == 401
            assert status(server, target="/health/ready") == 200
        assert second.stop() == 0
    assert first.stop() == 0


def test_what_the_commands_say(database_file: Path, command_line: CommandLine) -> None:
    made = command_line.json("keys", "create", "--name", "ada", "--scope", "read", "--expires", "30d")
    secret(made["key"])
    assert set(made) == {"id", "name", "key", "scopes", "expires_at"}
    assert made["key"].startswith(f"qaa_{made['id']}_")
    assert (made["name"], made["scopes"]) == ("ada", ["read"])
    plain = command_line.here("keys", "create")
    assert secret(plain.stdout.strip()).startswith("qaa_")
    listed = command_line.json("keys", "list")
    assert [key["scopes"] for key in listed] == [["read"], ["read", "write"]]
    assert listed[0]["expires_at"] == made["expires_at"]
    assert made["key"] not in command_line.here("keys", "list").stdout
    [own] = command_line.json("webhooks", "secret", "--key", "ada")
    [services] = command_line.json("webhooks", "secret")
    new, old = command_line.json("webhooks", "secret", "--rotate", "--key", "ada")
    assert own["secret"] == old["secret"]
    assert len({secret(each["secret"]) for each in (own, services, new)}) == 3


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_the_command_line_changed_was_in_no_log(
    database_file: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("QAA_LOG_FORMAT", form)
    made = command_line.here("keys", "create", "--name", "ada", "--json")
    key = json.loads(made.stdout)
    rotated = command_line.here("webhooks", "secret", "--key", "ada", "--rotate", "--json")
    secrets = [secret(each["secret"]) for each in json.loads(rotated.stdout)]
    revoked = command_line.here("keys", "revoke", "ada", "--json")
    for ended, action in ((made, "key.create"), (rotated, "secret.rotate"), (revoked, "key.revoke")):
        [line] = ended.stderr.splitlines()
        assert not any(each in line for each in (secret(key["key"]), *secrets))
        if form == "json":
            told = json.loads(line)
            assert (told["action"], told["target"], told["key_name"]) == (action, key["id"], "operator")
            assert told["logger"] == "quart_async_api.audit"
        else:
            assert line.endswith(f"info    {action} {key['id']} by operator")
    assert command_line.here("keys", "list", "--json").stderr == ""
    monkeypatch.setenv("QAA_LOG_LEVEL", "warning")
    assert command_line.here("webhooks", "secret", "--rotate", "--json").stderr == ""


async def delay_jobs(database: Path, owner: str) -> None:
    """Insert two jobs of the key that wait."""
    async with connected(Settings(database_url=f"sqlite://{database}")) as service:
        for _ in range(2):
            now = timestamp(datetime.now(UTC))
            job = JobRecord(
                id=new_id(),
                task="test",
                status=Status.QUEUED,
                args="{}",
                urgency=0,
                max_attempts=1,
                timeout=None,
                created_at=now,
                run_at=later(now, 3600),
                owner=owner,
            )
            await service.store.submission.insert(job, 100)


def test_revoking_says_what_jobs_are_left_and_cancels_them_on_wish(
    database_file: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how, cancels in (
        ("--cancel-jobs", True),
        ("--keep-jobs", False),
        ("not asked", False),
        ("yes", True),
        ("no", False),
    ):
        made = command_line.json("keys", "create", "--name", how)
        secret(made["key"])
        asyncio.run(delay_jobs(database_file, made["id"]))
        monkeypatch.setattr("quart_async_api.commands.keys._can_ask", lambda _, how=how: how in ("yes", "no"))
        words = [how] if how.startswith("--") else []
        told = command_line.here("keys", "revoke", *words, "--", how, typed=f"{how}\n").stdout
        assert ("cancelled 2 of its jobs" if cancels else "2 of its jobs are unfinished") in told
        assert ("Cancel?" in told) is (how in ("yes", "no"))
        again = command_line.json("keys", "revoke", "--cancel-jobs", made["id"])
        assert (again["cancelled_jobs"], again["unfinished_jobs"]) == ((0, 0) if cancels else (2, 0))


def test_revoking_needs_no_task_module(database_file: Path, command_line: CommandLine) -> None:
    secret(command_line.json("keys", "create", "--name", "ada")["key"])
    environ = {"QAA_DATABASE_URL": f"sqlite://{database_file}", "QAA_TASKS": "no.such.module"}
    ended = invoke("keys", "revoke", "ada", "--json", **environ)
    assert ended.exit_code == 0, ended.output


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("create", "--name", "ada"), 1, "named 'ada'"),
        (("create", "--name", ""), 1, "printable"),
        (("create", "--scope", "root"), 2, "'root' is not one of"),
        (("create", "--expires", "soon"), 2, "must be a duration"),
        (("create", "--expires", "0"), 2, "must be more than 0"),
        (("revoke", "nobody"), 1, "'nobody'"),
        (("list", "more"), 2, "unexpected extra argument"),
    ],
)
def test_a_mistake_is_one_line(
    database_file: Path, command_line: CommandLine, words: tuple[str, ...], code: int, told: str
) -> None:
    secret(command_line.json("keys", "create", "--name", "ada")["key"])
    ended = command_line.here("keys", *words, code=code)
    assert ended.stdout == ""
    line = ended.stderr.splitlines()[-1]
    assert line.lower().startswith("error: ")
    assert told in line


def test_migrate_makes_the_secret_of_the_service_once(tmp_path: Path, command_line: CommandLine) -> None:
    command_line.here("migrate")
    first = command_line.json("webhooks", "secret")
    secret(first[0]["secret"])
    command_line.here("migrate")
    assert command_line.json("webhooks", "secret") == first


def test_an_address_that_others_reach_is_served_once_a_key_is_made(
    tmp_path: Path, migrated_file: Path, database_file: Path, command_line: CommandLine
) -> None:
    refused = command_line("serve", "--bind", "0.0.0.0:0", code=1)
    assert "keys create" in refused.stderr
    key = command_line.create()
    with serve(tmp_path, migrated_file, bind="0.0.0.0:0") as server:
        assert status(server) == 401
        assert status(server, key) == 200
        assert server.stop() == 0


def test_a_socket_is_refused_before_it_is_accepted(start: Start, command_line: CommandLine) -> None:
    server = start()
    key = command_line.create()
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    target = "/jobs/0192f0c1-0000-7000-8000-000000000000/ws"
    refused = exchange(server.port, head("GET", target, *upgrade))
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    crossed = exchange(
        server.port, head("GET", target, *upgrade, f"Authorization: Bearer {key}", "Origin: http://evil.example")
    )
    assert crossed.status == 403
    assert server.stop() == 0
