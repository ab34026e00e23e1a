"""Starts an app on a database of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast, get_args

from ..app import App, create_app
from ..errors import SettingsError
from ..jobs.engines import upgrade
from ..service import Role
from ..settings import Settings
from .databases import Templates, temporary_templates
from .service import ServiceUnderTest
from .worker import HandWorker, JobMode

if TYPE_CHECKING:
    from ..moments import ServiceClock


def settings_of_tests(**given: Any) -> Settings:
    """Settings for tests: callbacks may go to an inbox on loopback, and nothing waits at the end."""
    return Settings(**{"callback_allow_private": True, "drain_seconds": 0.0, **given})


@asynccontextmanager
async def run_service(
    make_app: Callable[[Settings], App] = create_app,
    settings: Settings | None = None,
    *,
    jobs: JobMode = "by_hand",
) -> AsyncIterator[ServiceUnderTest]:
    """Start the app of `make_app` on a database of its own, in a test without pytest's fixtures.

    With PostgreSQL, the database is made beside the one that `settings` name.
    """
    async with (
        temporary_templates() as templates,
        run_on_copy(templates, make_app, settings or settings_of_tests(), jobs) as service,
    ):
        yield service


@asynccontextmanager
async def run_on_copy(
    templates: Templates, make_app: Callable[[Settings], App], settings: Settings, jobs: JobMode
) -> AsyncIterator[ServiceUnderTest]:
    """Start an app on a copy of the template that has its migrations."""
    if jobs not in get_args(JobMode):
        raise ValueError(f"jobs={jobs!r}: there are {', '.join(get_args(JobMode))}")
    async with AsyncExitStack() as stack:
        url, create = await stack.enter_async_context(templates.database(settings.database_url))
        app = make_app(settings.model_copy(update={"database_url": url}))
        if not isinstance(app, App):
            raise SettingsError(f"make_app returned {type(app).__name__}: return what create_app(settings, …) returns")
        service = app.service
        if service.settings.database_url != url:
            raise SettingsError("make_app uses another database than its settings name: a test would write to it")

        async def migrate(empty: str) -> None:
            await upgrade(service.settings.model_copy(update={"database_url": empty}), service.database.packages)

        await create(f"{service.settings.jobs_engine} {service.database.packages}", migrate)
        if jobs != "live":
            cast("ServiceClock", service.clock).stopped_at = service.clock()
        app.take(Role(runs_jobs=jobs == "live", fires_schedules=jobs == "live"))
        await stack.enter_async_context(cast("AbstractAsyncContextManager[object]", app.test_app()))
        stack.enter_context(service.database.bind())
        await service.secrets.create()
        worker = await stack.enter_async_context(HandWorker(service, jobs).running())
        yield ServiceUnderTest(app, worker, stack)
