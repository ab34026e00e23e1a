"""`quart-async-api new`: a project on this one. It imports its modules when it runs, so that --help is quick."""

import click


class _Refused(click.ClickException):
    exit_code = 2


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Make a project in the new folder NAME.

    It has a task, a route and a table, with their tests. Its package is NAME, with underscores for dashes.
    """
    from .. import __version__
    from .project import fault, make

    if told := fault(name):
        raise _Refused(told)
    try:
        has_wheel = make(name)
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from error
    if has_wheel:
        click.echo(f"{name} is made. Next:")
    else:
        click.echo(f"{name} is made. Put the wheel of quart-async-api {__version__} into {name}/wheels. Next:")
    click.echo(f"  cd {name}\n  make test\n  make run")
