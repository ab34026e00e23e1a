"""`quart-async-api keys`: who may use the service. Each command imports what it needs when it runs, so that --help is quick."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from .jobs_cli import Duration, readable

if TYPE_CHECKING:
    from .services.keys import KeyStore

T = TypeVar("T")

SCOPES = ("read", "write", "admin")

_as_json = click.option("--json", "as_json", is_flag=True, help="For a script: as JSON.")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. The first one closes the service to whoever has none.

    Running servers heed a change at once.
    """


@keys.command()
@click.option("--name", callback=readable, help="To tell it from others; made up by default.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    help="What it may do, once for each; read and write by default, admin is everything, and the jobs of all keys.",
)
@click.option("--expires", type=Duration(), help="How long it is good: 12h, 30d; for ever by default.")
@_as_json
def create(name: str | None, scopes: tuple[str, ...], expires: float | None, as_json: bool) -> None:
    """Make a key, and show it: only now, for only a digest of it is kept."""
    if expires == 0:
        raise click.BadParameter("must be more than 0", param_hint="--expires")

    from .services.access import Scope
    from .services.audit import OPERATOR, record

    key, text = _ask(lambda store: store.create(name, [Scope(scope) for scope in scopes], expires))
    record("key.create", OPERATOR, key.id)
    if as_json:
        shown = {"id": key.id, "name": key.name, "key": text, "scopes": key.document()["scopes"]}
        click.echo(json.dumps(shown | ({"expires_at": key.expires_at} if key.expires_at else {})))
    else:
        click.echo(text)
        click.echo(f"This is {key.name}, and is not shown again. Send it as Authorization: Bearer KEY.", err=True)


@keys.command("list")
@_as_json
def list_(as_json: bool) -> None:
    """List the keys, revoked and expired ones too, oldest first; never what they are."""
    found = _ask(lambda store: store.all())
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
@_as_json
def revoke(key: str, as_json: bool) -> None:
    """End a key for good, at once, and whoever is signed in with it is signed out.

    The service stays closed to whoever has no key, even when the last one is revoked.
    """
    from .services.audit import OPERATOR, record

    revoked = _ask(lambda store: store.revoke(key))
    record("key.revoke", OPERATOR, revoked.id)
    if as_json:
        click.echo(json.dumps(revoked.document(), ensure_ascii=False))
    else:
        click.echo(f"revoked {revoked.name}; the service stays closed to whoever has no key, even if none is left")


def _ask(work: Callable[["KeyStore"], Awaitable[T]]) -> T:
    import asyncio

    from .offline import connected
    from .services.keys import KeyStore
    from .settings import Settings

    settings = Settings.from_environment()

    async def run() -> T:
        async with connected(settings) as (database, commits):
            return await work(KeyStore(database, commits))

    return asyncio.run(run())
