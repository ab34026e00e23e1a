"""`quart-async-api keys`: API keys. Each command imports its modules when it runs, so that --help is quick."""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from .parameters import Duration, readable

if TYPE_CHECKING:
    from ..access.keys import Key
    from ..service import Service

T = TypeVar("T")

SCOPES = ("read", "write", "metrics", "admin")

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys. Once a key exists, every request needs one.

    Running servers apply a change at once.
    """


@keys.command()
@click.option("--name", callback=readable, help="Name of the key (default: a random name).")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    help="What the key may do; repeat for several (default: read and write). admin may do everything, also with the jobs of "
    "other keys.",
)
@click.option("--expires", type=Duration(), help="Lifetime: 12h, 30d (default: unlimited).")
@_as_json
def create(name: str | None, scopes: tuple[str, ...], expires: float | None, as_json: bool) -> None:
    """Create a key and print it once. The database stores only a digest."""
    if expires == 0:
        raise click.BadParameter("must be more than 0", param_hint="--expires")

    from ..access.audit import OPERATOR, record
    from ..access.caller import Scope

    async def work(service: "Service") -> tuple["Key", str]:
        key, text = await service.keys.create(name, [Scope(scope) for scope in scopes], expires)
        record("key.create", OPERATOR, key.id)
        return key, text

    key, text = _ask(work)
    if as_json:
        shown = {"id": key.id, "name": key.name, "key": text, "scopes": key.document()["scopes"]}
        click.echo(json.dumps(shown | ({"expires_at": key.expires_at} if key.expires_at else {})))
    else:
        click.echo(text)
        click.echo(f"Key {key.name}, shown once: store it now. Send it as Authorization: Bearer KEY.", err=True)


@keys.command("list")
@_as_json
def list_(as_json: bool) -> None:
    """List all keys, also revoked and expired ones, oldest first. The secret part is not shown."""
    found = _ask(lambda service: service.keys.all())
    if as_json:
        click.echo(json.dumps([key.document() for key in found], ensure_ascii=False))
        return
    for key in found:
        shown = key.document()
        state = [
            f"{what} {shown[f'{what}_at'][:19]}Z" for what in ("created", "expires", "revoked") if shown[f"{what}_at"]
        ]
        used = f"last used {shown['last_used_at'][:19]}Z" if shown["last_used_at"] else "never used"
        click.echo("  ".join((key.id, ",".join(shown["scopes"]), *state, used, key.name)))


@keys.command()
@click.argument("key", metavar="ID_OR_NAME", callback=readable)
@click.option(
    "--cancel-jobs/--keep-jobs",
    "cancels",
    default=None,
    help="Cancel the unfinished jobs of the key, or let them run (default: ask on a terminal, else let them run).",
)
@_as_json
def revoke(key: str, cancels: bool | None, as_json: bool) -> None:
    """Revoke a key at once and for ever. Its sessions end too.

    Requests still need a key after the last key is revoked.
    """
    from ..access.audit import OPERATOR, record
    from ..services.revocation import Revocation

    async def work(service: "Service") -> None:
        revocation = Revocation(service.keys, service.store, service.settings, service.clock)
        revoked, left = await revocation.revoke(key)
        record("key.revoke", OPERATOR, revoked.id)
        jobs = f"{len(left)} of its jobs {'is' if len(left) == 1 else 'are'} unfinished"
        if not as_json:
            click.echo(f"revoked {revoked.name}; requests still need a key, even if this was the last one")
        cancelled = 0
        if left and (click.confirm(f"{jobs}. Cancel?") if cancels is None and _can_ask(as_json) else cancels):
            cancelled = await revocation.cancel(left)
        if as_json:
            counts = {"unfinished_jobs": len(left) - cancelled, "cancelled_jobs": cancelled}
            click.echo(json.dumps(revoked.document() | counts, ensure_ascii=False))
        elif cancelled:
            click.echo(f"cancelled {cancelled} of its jobs; running jobs are asked to stop")
        elif left:
            click.echo(f"{jobs}; `keys revoke --cancel-jobs {revoked.id}` cancels them")

    _ask(work)


def _can_ask(as_json: bool) -> bool:
    return sys.stdin.isatty() and not as_json


def _ask(work: Callable[["Service"], Awaitable[T]]) -> T:
    from .connected import ask

    return ask(work)
