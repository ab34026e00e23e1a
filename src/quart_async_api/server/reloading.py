"""`serve --reload`: says when the code or the templates of the app, or of the service, have changed. For development."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from ..errors import StartupError
from ..settings import Settings

log = logging.getLogger(__name__)

_SUFFIXES = (".html", ".css", ".js", ".json")  # besides those of Python


def sources(settings: Settings) -> list[Path]:
    """Return the folders with the packages of the app, its tasks and the service. Raises StartupError without watchfiles.

    Nothing is imported: the app may be broken at the moment.
    """
    if find_spec("watchfiles") is None:
        raise StartupError("serve --reload needs the extra `reload`: pip install 'quart-async-api[reload]'")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the current folder, as in `import_here`
    named = (*settings.tasks, *([settings.app] if settings.app else ()), __name__)
    packages = {name.partition(":")[0].partition(".")[0] for name in named}
    return sorted({folder.resolve() for package in packages for folder in _folders(package)})


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None:  # not there yet
        return [Path()]
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.origin else []


@asynccontextmanager
async def watched(folders: Collection[Path], changed: asyncio.Event) -> AsyncIterator[None]:
    """Set `changed` whenever a source file in these folders has changed; of none: never."""
    if not folders:
        yield
        return
    watching = asyncio.create_task(_watch(folders, changed))
    await asyncio.sleep(0)  # it watches from here on
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(folders: Collection[Path], changed: asyncio.Event) -> None:
    from watchfiles import PythonFilter, awatch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts what is named here
    log.info("restarts when a file changes in %s", ", ".join(map(str, folders)))
    try:
        async for changes in awatch(*folders, watch_filter=PythonFilter(extra_extensions=_SUFFIXES)):
            log.info("changed: %s", ", ".join(sorted({Path(path).name for _, path in changes})))
            changed.set()
    except (OSError, RuntimeError) as error:  # such as no more watches of the system
        log.error("cannot watch the files, so a change has no effect until SIGHUP or a restart: %s", error)
