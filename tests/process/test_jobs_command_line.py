"""`quart-async-api jobs` on the database of a running server, as a person and as a script use it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import WORKLOAD, assert_no_fault_but_the_tasks
from tests.in_process import invoke
from tests.process.conftest import serve
from tests.server_process import PROGRAM, environment, run

pytestmark = pytest.mark.process

UNKNOWN = "01a1fcfe-c308-7429-9861-928ac3d85d54"


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The commands, in the folder of a running server."""

    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        return {
            "QAA_DATABASE_URL": f"sqlite://{self.folder / 'app.db'}",
            "QAA_DELAY": "0",
            **WORKLOAD,
        }

    def __call__(self, *words: str | bytes, code: int = 0, typed: str = "") -> subprocess.CompletedProcess[str]:
        quiet = {"QAA_LOG_LEVEL": "warning"}  # without the audit log
        ended = run((*PROGRAM, "jobs", *words), self.folder, self.settings | quiet, typed=typed)
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr, ended
        return ended

    def json(self, *words: str, code: int = 0) -> Any:
        ended = self(*words, "--json", code=code)
        assert ended.stderr == ""
        return json.loads(ended.stdout)

    def refuses(self, *words: str | bytes, code: int = 1) -> str:
        """The line, and it is one, that says what is wrong."""
        ended = self(*words, code=code)
        assert ended.stdout == ""
        *usage, line = ended.stderr.splitlines()
        assert (code == 2) == bool(usage)
        assert line.lower().startswith("error: ")
        return line[len("error: ") :]

    def submit(self, *words: str) -> str:
        return self("submit", *words).stdout.strip()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(tmp_path_factory.mktemp("server"))
    with serve(command_line.folder, migrated_file, **command_line.settings) as server:
        assert server.url
        yield command_line
        assert server.stop() == 0, server.log
    assert_no_fault_but_the_tasks(server)


def test_a_submitted_job_is_run_by_the_server_beside_it(jobs: CommandLine) -> None:
    ended = jobs("submit", "echo", "value=[1, 2]", "--watch")
    assert json.loads(ended.stdout) == [1, 2]
    first, *_, last = ended.stderr.splitlines()
    assert first.startswith("echo job ")
    assert first.endswith("is queued")
    assert last == "succeeded"


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (("value=5",), {"value": 5, "text": ""}),
        (("value=five",), {"value": "five", "text": ""}),
        (("text=5",), {"value": None, "text": "5"}),  # it wants text, and text it gets
        (("value=1", "value=x"), {"value": [1, "x"], "text": ""}),
        (("--args", '{"value": {"a": 1}}'), {"value": {"a": 1}, "text": ""}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_arguments_are_taken_as_the_task_declares_them(
    jobs: CommandLine, words: tuple[str, ...], args: dict[str, Any]
) -> None:
    job = jobs.json("submit", "echo", *words, "--delay", "1h", "--priority", "-3", "--max-attempts", "2")
    assert (job["args"], job["priority"], job["max_attempts"], job["status"]) == (args, -3, 2, "queued")
    assert jobs.json("cancel", job["id"])["status"] == "cancelled"


def test_a_watch_in_json_tells_every_event_and_fails_with_the_job(jobs: CommandLine) -> None:
    events = [json.loads(line) for line in jobs("submit", "breaks", "--watch", "--json", code=1).stdout.splitlines()]
    assert [event["event"] for event in events] == ["snapshot", "failed"]
    job = events[-1]["data"]
    assert events[-1]["id"] == f"{job['id']}:1"
    ended = jobs("watch", job["id"], code=1)
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("error: Task failed: ")
    assert jobs.json("show", job["id"])["attempts"][0]["outcome"] == "failed"


def test_a_failed_job_is_run_again(jobs: CommandLine) -> None:
    failed = json.loads(jobs("submit", "breaks", "--watch", "--json", code=1).stdout.splitlines()[-1])["data"]["id"]
    again = jobs.json("retry", failed)
    assert again["links"]["retry_of"] == f"/jobs/{failed}"
    jobs("watch", again["id"], code=1)


def test_a_running_job_is_cancelled_from_another_process(jobs: CommandLine, tmp_path: Path) -> None:
    job = jobs.submit("gated", f"gate={tmp_path / 'gate'}")
    with subprocess.Popen(
        (*PROGRAM, "jobs", "watch", job, "--json"),
        cwd=jobs.folder,
        env=environment(**jobs.settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            event = json.loads(line)
            if event["event"] == "log" or (event["event"] == "snapshot" and event["data"]["progress"]):
                assert jobs("cancel", job).stdout == "cancellation requested; the job is still running\n"
                break
        assert json.loads(watching.stdout.readlines()[-1])["event"] == "cancelled"
    assert watching.returncode == 1
    assert jobs("watch", job, code=1).stderr.splitlines()[-1] == "error: Job cancelled: a cancelled job has no result"
    assert "has cancelled already" in jobs.refuses("cancel", job)


def test_jobs_are_listed_newest_first(jobs: CommandLine) -> None:
    made = [jobs.submit("echo", "--delay", "1h") for _ in range(2)]
    assert [job["id"] for job in jobs.json("list", "--status", "queued", "--task", "echo", "--limit", "2")] == made[
        ::-1
    ]
    lines = jobs("list", "--status", "queued", "--limit", "1").stdout.splitlines()
    assert len(lines) == 1
    assert {made[1], "queued", "echo"} <= set(lines[0].split())
    assert json.loads(jobs("show", made[0]).stdout)["id"] == made[0]
    for job in made:
        assert jobs("cancel", job).stdout == "cancelled\n"


def test_what_is_purged_is_gone_and_what_is_younger_stays(jobs: CommandLine) -> None:
    job = json.loads(jobs("submit", "echo", "--watch", "--json").stdout.splitlines()[-1])["data"]["id"]
    waits = jobs.submit("echo", "--delay", "1h")
    assert jobs.json("purge", "--older-than", "1h", "--yes") == {"purged": 0}
    assert jobs("purge", "--older-than", "0", typed="n\n", code=1).stdout.startswith("Delete ")
    assert jobs.json("show", job)["status"] == "succeeded"
    assert "purged" in jobs("purge", "--older-than", "0", typed="y\n").stdout
    assert jobs.refuses("show", job).startswith("this echo job ended at ")
    assert jobs.json("cancel", waits)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("submit", "nothing"), "task: No task has this name; the tasks are "),
        (("submit", "echo", "text=x", "more=1"), "more: "),
        (("submit", "gated"), "gate: "),
        (("submit", "echo", "--args", "[1]"), "arguments: "),
        (("show", UNKNOWN), "no job has this id"),
        (("watch", UNKNOWN), "no job has this id"),
        (("cancel", "nonsense"), "no job has this id"),
        (("retry", UNKNOWN), "no job has this id"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_refusal_is_one_line(jobs: CommandLine, words: tuple[str, ...], line: str) -> None:
    assert line in jobs.refuses(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "echo", "value=1", "--args", "{}"),
        ("submit", "echo", "--priority", "101"),
        ("submit", "echo", "--delay", "soon"),
        ("submit", "echo", "--delay", "9999d"),
        ("submit", "echo", "--timeout", "0"),
        ("show", "\udcff"),
        ("list", "--status", "done"),
        ("purge",),
        ("purge", "--older-than", "1h", "--json"),
    ],
    ids=str,
)
def test_a_mistake_in_a_command_is_told_with_its_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = invoke("jobs", *words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: ")
    assert ended.stderr.splitlines()[-1].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [("value",), ("--args", "{"), ("--args", '{"value": NaN}'), (b"text=\xff",)],
    ids=["pair", "json", "nan", "utf-8"],
)
def test_arguments_that_cannot_be_read_are_told_with_the_usage(
    jobs: CommandLine, words: tuple[str | bytes, ...]
) -> None:
    assert jobs.refuses("submit", "echo", *words, code=2)


def test_a_database_that_is_not_there_is_told_as_everywhere(tmp_path: Path) -> None:
    ended = run((*PROGRAM, "jobs", "list"), tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: there is no database ")
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_touches_nothing(tmp_path: Path) -> None:
    heavy = ("asyncio", "quart", "tortoise", "aiohttp", "httpx", "pydantic", "rich")
    program = (
        "import sys; from quart_async_api.commands.main import main, jobs\n"
        "for name in ('', *jobs.commands): main(['jobs', *name.split(), '-h'], standalone_mode=False)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    ended = subprocess.run(
        (sys.executable, "-c", program), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout.count("Usage:") == 9
    assert ended.stdout.endswith("[]\n")
    assert list(tmp_path.iterdir()) == []


def command(jobs: CommandLine, *words: str) -> tuple[Any, list[str]]:
    """What a command prints as JSON, and the actions that it writes to the audit log."""
    logged = {"QAA_LOG_FORMAT": "json"}
    ended = run((*PROGRAM, *words, "--json"), jobs.folder, jobs.settings | logged)
    assert ended.returncode == 0, ended
    return json.loads(ended.stdout), [json.loads(line)["action"] for line in ended.stderr.splitlines()]


def test_an_operator_pauses_a_task_and_changes_many_jobs_with_every_change_in_the_audit_log(jobs: CommandLine) -> None:
    paused, audited = command(jobs, "tasks", "pause", "gather")
    assert (paused["name"], audited) == ("gather", ["task.pause"])
    assert paused["paused_at"] is not None
    listed, audited = command(jobs, "tasks", "list")
    assert ([task["name"] for task in listed if task["paused_at"]], audited) == (["gather"], [])

    waiting = [command(jobs, "jobs", "submit", "gather")[0] for _ in range(2)]
    wish = ("--task", "gather", "--status", "queued")
    assert command(jobs, "jobs", "bulk", "cancel", *wish, "--dry-run") == ({"matching": 2}, [])
    job, audited = command(jobs, "jobs", "bulk", "cancel", *wish)
    assert audited == ["job.bulk"]
    assert json.loads(jobs("watch", job["id"]).stdout) == {"matched": 2, "done": 2, "skipped": 0}
    assert {jobs.json("show", each["id"])["status"] for each in waiting} == {"cancelled"}
    assert command(jobs, "tasks", "resume", "gather")[1] == ["task.resume"]

    [worker] = command(jobs, "workers")[0]
    assert (worker["engine"], worker["running"]) == ("embedded", [])
    assert command(jobs, "callbacks", "list", "--status", "failed") == ([], [])
    refused = run((*PROGRAM, "tasks", "run", "gather"), jobs.folder, jobs.settings)
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: the task gather has no schedule: submit a job of it instead\n",
    )


def test_a_job_runs_again_with_other_arguments_and_each_change_is_audited(jobs: CommandLine) -> None:
    first, submitted = command(jobs, "jobs", "submit", "echo", "value=1")
    assert json.loads(jobs("watch", first["id"]).stdout) == 1
    again, retried = command(jobs, "jobs", "retry", first["id"], "--args", '{"value": 2}')
    assert json.loads(jobs("watch", again["id"]).stdout) == 2
    delayed, _ = command(jobs, "jobs", "submit", "echo", "value=1", "--delay", "1h")
    _, cancelled = command(jobs, "jobs", "cancel", delayed["id"])
    assert [submitted, retried, cancelled] == [["job.submit"], ["job.retry"], ["job.cancel"]]
    assert (
        jobs.refuses("retry", first["id"], "--args", "[]", code=2) == "Invalid value for --args: must be a JSON object"
    )
    assert jobs.refuses("retry", first["id"], "--args", '{"other": 2}').startswith("other: ")
