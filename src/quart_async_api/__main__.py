"""The command `quart-async-api`, and `python -m quart_async_api`."""

import gc
import sys

from .server import signals


def main() -> None:
    """Run the command line; `serve` and `worker` can be ended by Ctrl-C before the rest of it is imported."""
    gc.set_threshold(
        50_000, 20, 50
    )  # what the imports make is not garbage: looking for some takes a tenth of their time
    if sys.argv[1:2] in (["serve"], ["worker"]):
        signals.leave_at_once()
    from .commands.main import main as command

    command()


if __name__ == "__main__":
    main()
