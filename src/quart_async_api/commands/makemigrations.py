"""`quart-async-api makemigrations`. It imports its modules when it runs, so that --help is quick."""

import click

from .parameters import own_app, settings_of


@click.command()
@click.argument("name", required=False)
@own_app
@click.option(
    "--check", is_flag=True, help="Write nothing: exit with code 1 if models and migrations differ. Leave out NAME."
)
def makemigrations(name: str | None, app: str | None, check: bool) -> None:
    """Write migrations for the changes of the app's models, with a number and NAME, and print their paths.

    MODULE:FUNCTION makes the app, in place of QAA_APP. The database is not used.
    """
    import asyncio

    from ..db.makemigrations import differing, make_folder, write
    from ..errors import SettingsError
    from ..loading import load_tables

    if check and name is not None:
        if app is not None or ":" not in name:
            raise click.UsageError("--check writes no migration: leave out NAME.")
        name, app = None, name
    if not check and (name is None or not name.isidentifier()):
        raise click.UsageError("give the migration a NAME like add_price: a file is named after it.")
    packages = load_tables(settings_of(app))[1][1:]  # without the service's
    if not packages:
        raise SettingsError("the app has no models: name the app by QAA_APP, and its models by create_app(models=[…])")
    if check:
        if changed := asyncio.run(differing(packages)):
            raise SettingsError(
                f"the migrations do not have all of {', '.join(changed)}: run `quart-async-api makemigrations NAME`"
            )
        return
    try:
        for package in packages:
            make_folder(package)
        for path in asyncio.run(write(name or "", packages)):
            click.echo(path)
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error
