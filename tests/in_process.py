"""Commands in the process of the tests: quicker than a process of their own, for what starts nothing that goes on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from click.testing import CliRunner, Result

from quart_async_api.commands.main import main


def invoke(*words: str, typed: str | None = None, **environment: str) -> Result:
    """Run `quart-async-api` with these words. A command that configures the log does so for itself alone."""
    with _log_as_it_is():
        return CliRunner().invoke(main, words, typed, env=environment)


@contextmanager
def _log_as_it_is() -> Iterator[None]:
    root = logging.getLogger()
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    levels, handlers = [(each, each.level) for each in loggers], root.handlers[:]
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    try:
        yield
    finally:
        for logger in {*loggers, *map(logging.getLogger, root.manager.loggerDict)} - set(loggers):
            logger.setLevel(logging.NOTSET)
        for logger, level in levels:
            logger.setLevel(level)
        root.handlers[:] = handlers
        logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags
