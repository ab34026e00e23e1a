"""create_app: wires the parts of the service, and orders their start and stop. Nothing else."""

from collections.abc import AsyncGenerator, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from quart import Quart

from . import tutorial
from .callbacks.outbox import CallbackOutbox
from .callbacks.post import Poster
from .callbacks.secrets import WebhookSecrets
from .callbacks.sender import Sender
from .callbacks.store import DeliveryStore
from .callbacks.target import Targets
from .db.connection import Database
from .db.group_commit import GroupCommit
from .db.migration import check
from .errors import StartupError
from .http.audit import audit
from .http.bounds import BoundedWebsocket, Streams, bound_heads
from .http.conditional import ignore_bad_dates
from .http.cors import allow_origins
from .http.files import load_templates, refuse_unknown_files
from .http.guards import guard
from .http.json import PydanticJson
from .http.parts import EXTENSION, Parts
from .http.problems import answer
from .http.proxies import TrustedProxies
from .http.rate_limits import rate_limits, refusals, tell_limits
from .http.request_log import RequestLog
from .http.routes import callbacks, comics, console, contract, health, jobs, sign_in, sockets, start_task, users
from .http.routes import tutorial as tutorial_routes
from .jobs.background import BackgroundTasks
from .jobs.embedded import EmbeddedEngine
from .jobs.events import EventFeed
from .jobs.janitor import Janitor
from .jobs.liveness import liveness
from .jobs.loop import LagMeter
from .jobs.presence import Presence
from .jobs.scheduler import Scheduler
from .jobs.store import JobStore
from .lifecycle import Lifecycle
from .observability.tracing import outgoing_headers
from .services.access_tokens import AccessTokens
from .services.admissions import Admissions
from .services.callbacks import Callbacks
from .services.idempotency import Idempotency
from .services.key_ring import KeyRing
from .services.keys import KeyStore
from .services.submissions import Submissions
from .settings import Settings
from .tasks import load, registry
from .upstream.client import UpstreamClient
from .upstream.comics import ComicCatalogue

if TYPE_CHECKING:
    import ssl

    import httpx
    from aiohttp.abc import AbstractResolver


def create_app(
    settings: Settings | None = None,
    *,
    tasks: Iterable[ModuleType] = (),
    transport: "httpx.AsyncBaseTransport | None" = None,
    callback_resolver: "AbstractResolver | None" = None,
    callback_verify: "ssl.SSLContext | None" = None,
) -> Quart:
    """The service as an ASGI app; it starts and stops with the server's lifespan, and any number live in one process.

    `settings` come from the environment by default; `tasks` are modules whose tasks join the tutorial's; `transport` takes
    the place of the one under the shared HTTP client; `callback_resolver` finds the addresses of callbacks' targets, whose
    certificates `callback_verify` checks. Raises SettingsError.
    """
    settings = settings or Settings.from_environment()
    database = Database(settings.database_url)
    lifecycle = Lifecycle(settings.drain_seconds)
    resources: dict[type, object] = {}
    known = registry((tutorial, *load(settings.tasks), *tasks))
    commits = GroupCommit(database)
    outbox = CallbackOutbox(settings)
    store = JobStore(database, commits, outbox)
    feed = EventFeed(store)
    presence = Presence(store, settings, liveness(database.url))
    engine = EmbeddedEngine(store, feed, known, settings, resources, presence)
    deliveries = DeliveryStore(database, commits, settings)
    targets = Targets(settings, callback_resolver)
    poster = Poster(settings, targets, verify=callback_verify)
    secrets = WebhookSecrets(database, commits, settings.callback_secret_overlap)
    sender = Sender(deliveries, poster, secrets, presence, settings)
    outbox.on_committed = sender.wake
    key_ring = KeyRing(KeyStore(database, commits))
    access_tokens = AccessTokens(database, commits)
    admissions = Admissions(key_ring, access_tokens)
    janitor = Janitor(store, settings, also=(deliveries.clean, access_tokens.forget))
    scheduler = Scheduler(store, known, engine)
    refused = refusals(settings)
    submissions = Submissions(known, store, engine, feed, lifecycle, settings)
    lag = LagMeter()
    # Started by themselves; the rest have more than loops to start.
    alone = (janitor.loop, scheduler.loop, lag.loop, admissions.loop)
    loops = (feed.loop, *presence.loops, *engine.loops, *sender.loops, *alone)
    lifecycle.on_drain.append(feed.wake)
    lifecycle.drains += (engine.drain, sender.drain)

    app = Quart(__name__, static_folder="http/static", template_folder="http/templates")
    app.json = PydanticJson(app)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["BODY_TIMEOUT"] = settings.body_timeout
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.url_map.merge_slashes = False
    app.register_error_handler(Exception, answer)
    app.asgi_websocket_class = BoundedWebsocket
    bound_heads(app, settings)
    ignore_bad_dates(app)
    guard(app, settings, lifecycle)
    refuse_unknown_files(app)
    audit(app)
    allow_origins(app, settings.cors_origins)
    tell_limits(app)
    blueprints = (
        tutorial_routes,
        comics,
        users,
        start_task,
        jobs,
        sockets,
        callbacks,
        health,
        console,
        contract,
        sign_in,
    )
    for routes in blueprints:
        app.register_blueprint(routes.blueprint)
    load_templates(app)
    app.extensions[EXTENSION] = Parts(
        settings,
        lifecycle,
        database,
        known,
        resources,
        store,
        feed,
        engine,
        submissions,
        Idempotency(database),
        Callbacks(store, deliveries, targets, sender.wake),
        rate_limits(settings),
        refused,
        Streams(settings.max_streams, settings.stream_quota),
        key_ring,
        access_tokens,
        admissions,
        loops,
        lag,
    )

    @app.while_serving
    async def live() -> AsyncGenerator[None, None]:
        # One generator, so that whatever had started when a later part fails is stopped all the same.
        try:
            await database.start()
            await check(database)
            async with UpstreamClient(settings, transport=transport, headers=outgoing_headers) as client:
                resources[UpstreamClient] = client
                resources[ComicCatalogue] = ComicCatalogue(client, settings.comic_base_url)
                background = BackgroundTasks()
                try:
                    feed.start(background)
                    key_ring.start(background)
                    await presence.start(background)
                    await engine.start()
                    sender.start()
                    for loop in alone:
                        background.spawn(loop.run(), name=loop.name)
                    lifecycle.started.set()
                    yield
                    await lifecycle.drain()
                finally:
                    await engine.stop()
                    await sender.stop()
                    await poster.aclose()
                    await presence.stop()
                    await background.close(grace=2)
                    await key_ring.close()
                    refused.close()
                    await commits.close()
        except StartupError as error:
            lifecycle.failure = error
            raise
        finally:
            await database.stop()

    inner = app.asgi_app

    async def bound(scope: Any, receive: Any, send: Any) -> None:
        with database.bind():
            await inner(scope, receive, send)

    proxies = TrustedProxies(settings.trusted_proxies)
    app.asgi_app = RequestLog(  # type: ignore[assignment, method-assign]
        bound, proxies, parts_of(app).limits, strict_transport_security=settings.strict_transport_security
    )
    return app


def parts_of(app: Quart) -> Parts:
    """The parts of an app made here, for the server that runs it."""
    return cast("Parts", app.extensions[EXTENSION])
