"""The command `quart-async-api`, and `python -m quart_async_api`."""

import sys

from .server import signals


def main() -> None:
    """Run the command line; `serve` can be ended by Ctrl-C before the rest of it is imported."""
    if sys.argv[1:2] == ["serve"]:
        signals.leave_at_once()
    from .commands.main import main as command

    command()


if __name__ == "__main__":
    main()
