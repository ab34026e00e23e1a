"""create_app: the service plus Quart, and nothing else."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from quart import Blueprint, Quart
from quart.ctx import RequestContext, WebsocketContext
from quart.globals import request_ctx, websocket_ctx
from quart.testing import TestApp
from quart.typing import ResponseReturnValue, ResponseTypes

from . import __version__
from . import tutorial as tutorial_tasks
from .db.packages import packages
from .errors import StartupError
from .http.contract.app_problems import problem_types
from .http.contract.openapi import ABOUT, TITLE, About
from .http.guards.bounds import BoundedWebsocket
from .http.guards.order import Guards
from .http.json import PydanticJson
from .http.parts import EXTENSION
from .http.problems import answer
from .http.quart_dispatch import LeanQuart
from .http.registration import refuse_other_parameters, refuse_taken, refuse_undeliverable
from .http.routes import (
    bulk,
    callbacks,
    comics,
    contract,
    figures,
    health,
    jobs,
    metrics,
    sign_in,
    sockets,
    start_task,
    users,
    workers,
)
from .http.routes import tasks as task_routes
from .http.routes import tutorial as tutorial_routes
from .observability.logging import logged_if_unconfigured
from .observability.tracing import recorder
from .resources import Opener, takes_settings
from .service import Role, Service
from .settings import Settings
from .tasks import Task, load, registry
from .web import console
from .web.files import load_templates, serve_files
from .wire.proxies import TrustedProxies
from .wire.request_log import RequestLog, route_of

if TYPE_CHECKING:
    import ssl

    import httpx
    from aiohttp.abc import AbstractResolver
    from quart import Response


_TUTORIAL = (tutorial_routes, comics, users, start_task)
_OF_WORKERS = tuple(f"{room.blueprint.name}." for room in (health, metrics))
_ROOMS = (task_routes, jobs, bulk, sockets, callbacks, workers, health, metrics, figures, contract, sign_in)


class _TestApp(TestApp):
    """Quart's, which gives a start and a stop six seconds each: a busy machine takes longer, and a drain may."""

    def __init__(self, app: Quart) -> None:
        super().__init__(app, startup_timeout=120, shutdown_timeout=120)


class App(LeanQuart):
    """A Quart app around `service`, which starts and stops with it.

    What the app opens by `while_serving` is there before the first job runs, and until the last one has ended. It starts once:
    Quart's own generators of `while_serving` cannot begin again either.
    """

    test_app_class = _TestApp

    def __init__(self, service: Service, about: About) -> None:
        super().__init__(__name__, static_folder=None, template_folder="web/templates")
        self.service = service
        self.extensions |= {EXTENSION: service, ABOUT: about}
        self._guards = Guards(self, service)
        self.request_log: RequestLog
        self._serving = AsyncExitStack()
        self.json = PydanticJson(self)
        self.config["MAX_CONTENT_LENGTH"] = service.settings.max_body_bytes
        # The guards limit it (read_body): Quart does by `asyncio.wait_for`, which loses cancellations in Python 3.11.
        self.config["BODY_TIMEOUT"] = None
        self.config["PROPAGATE_EXCEPTIONS"] = False
        self.url_map.merge_slashes = False
        self.register_error_handler(Exception, answer)
        self.asgi_websocket_class = BoundedWebsocket

    def add_url_rule(
        self, rule: str, endpoint: str | None = None, view_func: Any = None, *args: Any, **options: Any
    ) -> None:
        """Raises ValueError for a route that @delivers cannot serve, or that has other parameters than its @operation."""
        refuse_other_parameters(rule, view_func, options)
        refuse_undeliverable(rule, view_func, options, self.service.tasks)
        super().add_url_rule(rule, endpoint, view_func, *args, **options)

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        with self.service.database.bind():
            await super().asgi_app(scope, receive, send)

    async def preprocess_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue | None:
        refusal = await self._guards.before_request((request_context or request_ctx).request)
        return await super().preprocess_request(request_context) if refusal is None else refusal

    async def process_response(
        self, response: ResponseTypes, request_context: RequestContext | None = None
    ) -> ResponseTypes:
        response = await super().process_response(response, request_context)
        request = (request_context or request_ctx).request
        return await self._guards.after_request(request, cast("Response", response))

    async def preprocess_websocket(
        self, websocket_context: WebsocketContext | None = None
    ) -> ResponseReturnValue | None:
        await self._guards.before_websocket((websocket_context or websocket_ctx).websocket)
        return await super().preprocess_websocket(websocket_context)

    async def postprocess_websocket(
        self, response: ResponseTypes | None, websocket_context: WebsocketContext | None = None
    ) -> ResponseTypes:
        response = await super().postprocess_websocket(response, websocket_context)
        websocket = (websocket_context or websocket_ctx).websocket
        return cast("ResponseTypes", await self._guards.after_websocket(websocket, response))

    def take(self, role: Role) -> None:
        """Decide what this process does, before its start. Raises SettingsError for a queue that no task has."""
        self.service.take(role)
        if not role.serves:
            rules = list(self.url_map.iter_rules())
            self.url_map = self.url_map_class(host_matching=self.url_map.host_matching)
            for rule in rules:
                if rule.endpoint.startswith(_OF_WORKERS):
                    self.add_url_rule(rule.rule, rule.endpoint, methods=rule.methods)

    async def startup(self) -> None:
        try:
            refuse_taken(self)
            problem_types(self)
            if self.service.role.serves:
                await asyncio.to_thread(load_templates, self)
            async with AsyncExitStack() as stack:
                stack.enter_context(logged_if_unconfigured(self.service.settings))
                await stack.enter_async_context(self.service.opened())
                self.while_serving_gens = [self._kept(opened, stack) for opened in self.while_serving_gens]
                await super().startup()
                stack.push_async_callback(super().shutdown)
                await stack.enter_async_context(self.service.running())
                if (counted := self.service.metrics) is not None:
                    self.request_log.count = counted.request
                self.request_log.writes_spans = recorder() is not None
                self._serving = stack.pop_all()
        except StartupError as error:
            self.service.lifecycle.failure = error
            raise

    async def shutdown(self) -> None:
        await self._serving.aclose()

    @property
    def resources(self) -> dict[type, object]:
        """What tasks get from `ctx.resource(type)`, and routes from `resource(type)`."""
        return self.service.resources

    async def _kept(self, opened: AsyncGenerator[None, None], stack: AsyncExitStack) -> AsyncGenerator[None, None]:
        """Run a function of `while_serving`, which `stack` ends where Quart does not: where another one fails."""
        await anext(opened)
        stack.push_async_callback(self._end, opened)
        yield
        await _end(opened)

    async def _end(self, opened: AsyncGenerator[None, None]) -> None:
        async with self.app_context():
            await _end(opened)


async def _end(opened: AsyncGenerator[None, None]) -> None:
    """Run the rest of a function of `while_serving`, if it has not ended."""
    with suppress(StopAsyncIteration):
        await anext(opened)
        raise RuntimeError("a function of while_serving yields more than once")


def create_app(
    settings: Settings | None = None,
    *,
    tutorial: bool = True,
    title: str = TITLE,
    version: str = __version__,
    info: Mapping[str, Any] = MappingProxyType({}),
    tags: Mapping[str, str] = MappingProxyType({}),
    tasks: Iterable[ModuleType | Task] = (),
    resources: Iterable[Opener] = (),
    models: Iterable[str | ModuleType] = (),
    blueprints: Iterable[Blueprint] = (),
    transport: "httpx.AsyncBaseTransport | None" = None,
    callback_resolver: "AbstractResolver | None" = None,
    callback_verify: "ssl.SSLContext | None" = None,
) -> App:
    """The service as an ASGI app; it starts and stops with the server's lifespan, and any number live in one process.

    `settings` come from the environment by default; `tasks` are modules with tasks, or tasks; `resources` are
    functions of the settings or of nothing that return async context managers, for what tasks and routes find by its type;
    `models` are modules with Tortoise's models, or their names: the migrations of `shop.models` are in `shop.migrations`;
    `blueprints` are registered after the service's own. `tutorial=False` leaves out the tutorials: their tasks and routes,
    and the users. `title` and `version` are those of the OpenAPI document, and each page has the title; `info` has further
    members of its Info object (`description`, `contact`, `license`), and `tags` the descriptions of the app's own tags.

    `transport` takes the place of the one under the shared HTTP client; `callback_resolver` finds the addresses of callbacks'
    targets, whose certificates `callback_verify` checks.
    Raises SettingsError, and TypeError for a resource with other parameters.
    """
    settings = settings or Settings.from_environment()
    openers = tuple(resources)
    for opener in openers:
        takes_settings(opener)  # else TypeError
    service = Service(
        settings,
        registry((*((tutorial_tasks,) if tutorial else ()), *load(settings.tasks), *tasks)),
        packages=packages(models),
        resources=openers,
        transport=transport,
        callback_resolver=callback_resolver,
        callback_verify=callback_verify,
    )
    app = App(service, About(title, version, info, tags))
    serve_files(app)
    rooms = (*(_TUTORIAL if tutorial else ()), *_ROOMS)
    pages = (*console.BLUEPRINTS, *(console.TUTORIAL if tutorial else ()))
    for blueprint in (*(room.blueprint for room in rooms), *pages, *blueprints):
        app.register_blueprint(blueprint)
    return _logged(app)


def _logged(app: App) -> App:
    service = app.service
    settings = service.settings
    proxies = TrustedProxies(settings.trusted_proxies)
    app.request_log = RequestLog(
        app.asgi_app, proxies, service.limits, strict_transport_security=settings.strict_transport_security
    )
    app.asgi_app = app.request_log  # type: ignore[method-assign]
    service.figures.requests = app.request_log.answered
    service.gauges["qaa_http_requests_in_flight"] = lambda: app.request_log.in_flight
    service.loop_watch.names[RequestLog.__call__.__code__] = route_of
    return app
