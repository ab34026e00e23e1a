"""`quart-async-api webhooks`: the secrets that sign callbacks."""

import json
from typing import TYPE_CHECKING

import click

from .parameters import readable

if TYPE_CHECKING:
    from ..callbacks.secrets import WebhookSecret
    from ..service import Service
    from ..settings import Settings


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

    from ..access.audit import OPERATOR, record
    from ..callbacks.secrets import OF_THE_SERVICE
    from .connected import ask

    async def work(service: "Service") -> list["WebhookSecret"]:
        secrets = service.secrets
        key_id = OF_THE_SERVICE if key is None else (await service.keys.find(key)).id
        if rotate:
            await secrets.rotate(key_id)
            record("secret.rotate", OPERATOR, key_id or None)
        else:
            await secrets.create(key_id)
        return await secrets.valid_for(key_id)

    found = ask(work)
    if as_json:
        shown = [
            {"secret": each.secret, "created_at": each.created_at, "expires_at": each.expires_at} for each in found
        ]
        click.echo(json.dumps(shown))
        return
    for each in found:
        click.echo(each.secret + (f"  until {each.expires_at[:19]}Z" if each.expires_at else ""))


def create_missing(settings: "Settings") -> None:
    """Create the secret of the service if it is missing."""
    from .connected import ask

    ask(lambda service: service.secrets.create(), settings=settings)
