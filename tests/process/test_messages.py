"""What the command line says about wrong input: the names of a terminal, not the pointers of the API."""

from pathlib import Path

import click
import pytest
from blockbuster import BlockBuster

from quart_async_api.commands.main import main
from quart_async_api.commands.messages import of_error
from quart_async_api.errors import FieldError, InvalidInput
from tests.in_process import invoke

UNKNOWN = "0192f0c1-0000-7000-8000-000000000000"
WRONG = [
    ("keys revoke nobody", "key: No key has the id or name 'nobody'; `quart-async-api keys list` lists all keys"),
    ("keys create --name abcdefabcdef", "name: Must be 1 to 100 printable characters"),
    ("webhooks secret --key nobody", "key: No key has the id or name 'nobody'"),
    ("webhooks secret --rotate --key nobody", "key: No key has the id or name 'nobody'"),
    ("jobs submit nothing", "task: No task has this name; the tasks are comic, "),
    ("jobs submit comic number=many", "number: Input should be a valid integer"),
    ("jobs submit comic num=1 num=x", "num.1: Input should be a valid integer"),
    ("jobs submit comic nummer=1", "nummer: Extra inputs are not permitted"),
    ("jobs submit test --args []", "arguments: Input should be a valid dictionary"),
    ("jobs submit test --delay 999d", "delay: At most 2592000 seconds from now"),
    (f"jobs show {UNKNOWN}", "no job has this id"),
    (f"jobs watch {UNKNOWN}", "no job has this id"),
    (f"jobs cancel {UNKNOWN}", "no job has this id"),
    (f"jobs retry {UNKNOWN}", "no job has this id"),
    ("jobs bulk cancel --created-after yesterday", "filter.created_after: Must be a time with zone"),
    ("jobs bulk retry --created-before yesterday", "filter.created_before: Must be a time with zone"),
    ("tasks pause nothing", "no task has the name 'nothing'; the tasks are comic, "),
    ("tasks resume nothing", "no task has the name 'nothing'; the tasks are comic, "),
    ("tasks run test", "the task test has no schedule"),
    (f"callbacks replay {UNKNOWN} x", "no job has this id"),
    ("makemigrations add_price", "the app has no models: name the app by QAA_APP"),
    ("db copy --from nonsense --to nonsense", "the database URL must be "),
    ("db backup /nowhere/file", "cannot write /nowhere/file: "),
]
# They take no text that the service checks, or refuse it as an option (exit code 2).
WITHOUT_INPUT = {
    "serve",
    "worker",
    "workers",
    "migrate",
    "doctor",
    "openapi",
    "jobs list",
    "jobs purge",
    "keys list",
    "tasks list",
    "callbacks list",
    "makemigrations",
    "new",  # tests/unit/test_new.py
}


@pytest.fixture
def _commands_may_block(_blocking_calls_fail: BlockBuster) -> None:
    for function in _blocking_calls_fail.functions.values():
        function.can_block_in("quart_async_api/commands/jobs.py", "work")  # nothing else runs yet


@pytest.mark.usefixtures("_commands_may_block")
@pytest.mark.parametrize(("command", "message"), WRONG, ids=[command for command, _ in WRONG])
def test_a_json_pointer_was_shown_in_a_terminal(database_file: Path, command: str, message: str) -> None:
    ended = invoke(*command.split(), QAA_DATABASE_URL=f"sqlite://{database_file}")
    assert (ended.exit_code, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert "#/" not in line


def test_the_walk_above_has_every_command() -> None:
    def names(group: click.Group, *before: str) -> set[str]:
        return {
            found
            for name, command in group.commands.items()
            for found in (
                names(command, *before, name) if isinstance(command, click.Group) else {" ".join((*before, name))}
            )
        }

    walked = {name for name in names(main) if any(command.startswith(name) for command, _ in WRONG)}
    assert walked | WITHOUT_INPUT == names(main)


def test_a_field_is_named_as_it_was_typed() -> None:
    for pointer, name in {"#/args/a~1b/0/c~0": "a/b.0.c~", "#": "arguments", "#/args": "arguments", "#/x": "x"}.items():
        assert of_error(InvalidInput(FieldError(pointer, "is wrong"))) == f"{name}: is wrong"
    both = InvalidInput(FieldError("#/a", "is wrong"), FieldError("#/args/b", "is too"))
    assert of_error(both) == "a: is wrong; b: is too"
