"""`quart-async-api webhooks`: the secrets that sign callbacks."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from .jobs_cli import readable

if TYPE_CHECKING:
    from .callbacks.secrets import WebhookSecret, WebhookSecrets
    from .services.keys import KeyStore
    from .settings import Settings

T = TypeVar("T")


@click.group()
def webhooks() -> None:
    """Show and rotate the secrets that sign callbacks."""


@webhooks.command()
@click.option(
    "--key",
    metavar="ID_OR_NAME",
    callback=readable,
    help="API key whose jobs use this secret (default: jobs submitted without a key).",
)
@click.option(
    "--rotate", is_flag=True, help="Create a new secret; the old one also signs for QAA_CALLBACK_SECRET_OVERLAP."
)
@click.option("--json", "as_json", is_flag=True, help="Print an array, newest first.")
def secret(key: str | None, rotate: bool, as_json: bool) -> None:
    """Print the secret, and the previous one while both sign."""

    from .callbacks.secrets import OF_THE_SERVICE
    from .services.audit import OPERATOR, record
    from .settings import Settings

    async def work(secrets: "WebhookSecrets", keys: "KeyStore") -> list["WebhookSecret"]:
        key_id = OF_THE_SERVICE if key is None else (await keys.find(key)).id
        if rotate:
            await secrets.rotate(key_id)
            record("secret.rotate", OPERATOR, key_id or None)
        else:
            await secrets.create(key_id)
        return await secrets.valid_for(key_id)

    found = _ask(Settings.from_environment(), work)
    if as_json:
        shown = [
            {"secret": each.secret, "created_at": each.created_at, "expires_at": each.expires_at} for each in found
        ]
        click.echo(json.dumps(shown))
        return
    for each in found:
        click.echo(each.secret + (f"  until {each.expires_at[:19]}Z" if each.expires_at else ""))


def create_missing(settings: "Settings") -> None:
    """Make the secret of the service where there is none."""
    _ask(settings, lambda secrets, keys: secrets.create())


def _ask(settings: "Settings", work: Callable[["WebhookSecrets", "KeyStore"], Awaitable[T]]) -> T:
    import asyncio

    from .callbacks.secrets import WebhookSecrets
    from .observability.logging import logged
    from .offline import connected
    from .services.keys import KeyStore

    async def run() -> T:
        async with connected(settings) as (database, commits):
            secrets = WebhookSecrets(database, commits, settings.callback_secret_overlap)
            return await work(secrets, KeyStore(database, commits))

    with logged(settings):
        return asyncio.run(run())
