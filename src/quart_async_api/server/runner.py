"""The runner of `quart-async-api serve`: Hypercorn in this process. It binds before the start, and drains before it closes."""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import uvloop
from hypercorn.utils import LifespanFailureError

from .. import __version__
from ..app import App
from ..errors import AddressUnusable, StartupError
from ..lifecycle import FAREWELL_SECONDS, Lifecycle
from ..loading import load_app
from ..observability.shared_metrics import shared
from ..service import Role, Service
from ..settings import Http1, Settings
from ..wire.addresses import is_loopback, network
from ..wire.connections import Connections, FileShares, raise_file_limit
from ..wire.proxies import TrustedProxies
from . import listeners, signals
from .hypercorn_internals import BoundedConfig, install
from .reloading import sources
from .supervisor import READY, REPLACED, supervise
from .watchdog import Watchdog

log = logging.getLogger(__name__)

_PARTING_SECONDS = 0.1  # for requests that arrived last
_REFUSING_SECONDS = (
    5.0  # for the app to refuse a late body itself, with a problem; on a busy host it may begin late to wait
)
_LAST_SECONDS = 0.8  # after the drain, for all unfinished work
_CLOSE_SECONDS = 0.0005  # for each connection, on a busy machine
_PACKAGED = Path(__file__).parents[1] / "hypercorn.toml"
_CHECKOUT = Path(__file__).parents[3] / "hypercorn.toml"


def serve(
    settings: Settings, host: str, port: int, processes: int = 1, *, runs_jobs: bool = True, reload: bool = False
) -> int:
    """Serve on `host`:`port` (0: any free one) until SIGTERM or SIGINT. Raises StartupError without any change.

    Without `runs_jobs`, other processes run the jobs. With `reload`, a process of its own serves, replaced whenever a source
    file changes. Returns the exit code: 1 if one of several processes failed.
    """
    options = (*([settings.app] if settings.app else ()), *(() if runs_jobs else ("--no-jobs",)))
    if reload:
        return _serve_reloading(settings, host, port, options)
    app, settings = _made(settings, Role(runs_jobs=runs_jobs))
    if not settings.allow_anonymous and not is_loopback(host):
        asyncio.run(_ask_for_a_key(settings, host))
    elif processes > 1:
        # Checked once here, so that not every process reports the same error.
        asyncio.run(_ask_database(settings))
    # Bound before the app starts: if the port is in use, the app must not have run.
    config = _config(settings)
    listener = _listen(host, port, config.backlog, settings.send_timeout)
    if settings.inbox:
        _open_inbox(app.service, listener, alone=processes == 1 and not config.ssl_enabled)
    if processes > 1:
        _warn_of_root()
        with shared(on=settings.metrics) as folder:
            return asyncio.run(supervise(listener.fileno(), processes, options, metrics=folder))
    _serve_on(app, config, listener)
    return 0


def _serve_reloading(settings: Settings, host: str, port: int, options: Sequence[str]) -> int:
    """Make no app here: one that is broken is a fault of the process that serves, and the next change may mend it."""
    folders = sources(settings)
    if not settings.allow_anonymous and not is_loopback(host):
        asyncio.run(_ask_for_a_key(settings, host))
    listener = _listen(host, port, _config(settings).backlog, settings.send_timeout)
    with shared(on=settings.metrics) as folder:
        supervised = supervise(listener.fileno(), 1, (*options, "--reload"), metrics=folder, sources=folders)
        return asyncio.run(supervised)


def serve_inherited(settings: Settings, listener: int, *, runs_jobs: bool = True, alone: bool = False) -> None:
    """Serve on the listening socket of the supervisor that started this process, until a signal or that one's end.

    `alone`: it has no other server at a time.
    """
    app, settings = _made(settings, Role(runs_jobs=runs_jobs))
    config, inherited = _config(settings), socket.socket(fileno=listener)
    if settings.inbox and alone:
        _open_inbox(app.service, inherited, alone=not config.ssl_enabled)
    _serve_on(app, config, inherited, supervised=True)


def work(settings: Settings, host: str, port: int, queues: Collection[str] | None) -> None:
    """Run jobs, of tasks in `queues` (None: of all), until SIGTERM or SIGINT. `host`:`port` answers health checks alone.

    Raises StartupError without any change.
    """
    app, settings = _made(settings, Role(serves=False, queues=queues))
    config = _config(settings)
    listener = _listen(host, port, config.backlog, config.send_timeout)
    Watchdog(app.service).start()
    most, of = settings.job_concurrency, "all queues" if queues is None else f"the queues {', '.join(queues)}"
    log.info("runs jobs of %s, at most %d at once; its address answers health checks alone", of, most)
    _serve_on(app, config, listener)


def _made(settings: Settings, role: Role) -> tuple[App, Settings]:
    """Return the app, and its settings: the function that makes it may change them."""
    app = load_app(settings)
    app.take(role)
    return app, app.service.settings


async def _ask_database(settings: Settings) -> None:
    async with Service(settings, {}).connected():
        pass


async def _ask_for_a_key(settings: Settings, host: str) -> None:
    async with Service(settings, {}).connected() as service:
        if await service.keys.version() is None:
            raise AddressUnusable(
                f"{host} can be reached by others, and the service would be open to all of them: make a key with "
                "`quart-async-api keys create`, set QAA_ALLOW_ANONYMOUS=1 to allow that, or bind it to 127.0.0.1"
            )


def _config(settings: Settings) -> BoundedConfig:
    config = cast("BoundedConfig", BoundedConfig.from_toml(_CHECKOUT if _CHECKOUT.is_file() else _PACKAGED))
    reserve = settings.upstream_concurrency + settings.callback_concurrency
    shares = FileShares.of(raise_file_limit(), reserve=reserve, backlog=config.backlog, most=settings.max_connections)
    config.backlog = shares.backlog
    config.connections = Connections(
        shares.connections,
        settings.max_connections_per_address,
        is_exempt=TrustedProxies(settings.trusted_proxies).trusts,
        client_of=network,
    )
    config.http1_is_fast = settings.http1 is Http1.FAST
    config.send_timeout = settings.send_timeout
    config.body_timeout = settings.body_timeout + _REFUSING_SECONDS
    config.workers = 1
    config.keep_alive_timeout = config.ssl_handshake_timeout = settings.header_timeout
    config.websocket_max_message_size = max(config.websocket_max_message_size, 2 * settings.max_message_bytes)
    config.errorlog = logging.getLogger("hypercorn.error")
    return config


def _warn_of_root() -> None:
    if os.geteuid() == 0:
        log.warning("the service runs as root, with all rights on this machine; run it as a separate user")


def _serve_on(app: App, config: BoundedConfig, listener: socket.socket, *, supervised: bool = False) -> None:
    # Quart logs what keeps it from starting as a fault, with its traceback; a StartupError is one line, said by the caller.
    app.logger.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], StartupError)))
    url = _url(listener, "https" if config.ssl_enabled else "http")
    config.bind = [f"fd://{listener.detach()}"]
    install()
    uvloop.run(_serve(app, config, url, supervised))
    gc.freeze()  # else the interpreter looks through all its memory for what could be freed, which takes longer than the stop


def _open_inbox(service: Service, listener: socket.socket, *, alone: bool) -> None:
    host, port = listener.getsockname()[:2]
    if alone and is_loopback(host):
        service.inbox.open(host, port)
    else:  # it is in the memory of one process, and callbacks to it are exempt from the rules for targets
        log.info("QAA_INBOX has no effect: it needs one process, a loopback address and no TLS")


async def _serve(app: App, config: BoundedConfig, url: str, supervised: bool) -> None:
    app.service.gauges["qaa_http_connections"] = app.service.figures.connections = lambda: len(config.connections)
    lifecycle = app.service.lifecycle
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    for number in signals.ENDING:
        loop.add_signal_handler(number, stop.set)
    replaced = asyncio.Event()
    if supervised:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is the supervisor's

        def told() -> None:
            loop.remove_reader(0)
            with suppress(ConnectionResetError):  # the supervisor died
                if os.read(0, 1) == REPLACED:
                    replaced.set()
            stop.set()

        loop.add_reader(0, told)
    elif signals.is_heard(signal.SIGHUP):
        loop.add_signal_handler(signal.SIGHUP, stop.set)

    async def drained() -> None:
        # Hypercorn closes its listeners as soon as this returns, so the rest is answered until then; by another process, where
        # there is one in this one's place.
        await stop.wait()
        log.info("shutting down: new work is refused; running work has %g s", lifecycle.drain_seconds)
        ends = loop.time() + lifecycle.drain_seconds
        _end_after(lifecycle.drain_seconds + _LAST_SECONDS + len(config.connections) * _CLOSE_SECONDS)
        if replaced.is_set():
            background.add(loop.create_task(_drain_later(lifecycle)))
            patience = lifecycle.drain_seconds + FAREWELL_SECONDS
            config.shutdown_timeout = max(config.shutdown_timeout, patience)
        else:
            await lifecycle.drain()
            gc.disable()  # takes half of the time in which thousands of connections are closed
            patience = min(config.graceful_timeout, max(ends + FAREWELL_SECONDS - loop.time(), _PARTING_SECONDS))
        # Hypercorn would cancel what outlasts graceful_timeout, and then wait for its bytes to be read: for ever, where a
        # client reads nothing.
        loop.call_later(patience, config.connections.abort)
        config.graceful_timeout = patience + _PARTING_SECONDS

    async def announce() -> None:
        await lifecycle.started.wait()
        log.info(
            "quart-async-api %s listens on %s, pid %d, database %s",
            __version__,
            url,
            os.getpid(),
            app.service.database.location,
        )
        if supervised:
            with suppress(OSError):
                os.write(0, READY)
        else:
            _warn_of_root()

    background = {loop.create_task(announce())}
    try:
        await listeners.serve(app, config, shutdown_trigger=drained)
    except LifespanFailureError:
        if lifecycle.failure is not None:
            raise lifecycle.failure from None
        raise
    finally:
        for task in background:
            task.cancel()
        signals.let_go(loop)
    log.info("stopped")
    await _leave_behind()


async def _drain_later(lifecycle: Lifecycle) -> None:
    await asyncio.sleep(_PARTING_SECONDS)  # for requests whose connection was accepted last
    await lifecycle.drain()


async def _leave_behind() -> None:
    # asyncio.run waits for every task that is left, for ever where one swallows its cancellation. Everything is closed and
    # written by now, so a process with such a task just ends.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, stubborn = await asyncio.wait(left, timeout=_PARTING_SECONDS)
        if stubborn:
            log.warning("%d tasks did not end", len(stubborn))
            logging.shutdown()
            os._exit(0)


def _end_after(seconds: float) -> None:
    # A thread, for what no event loop can end: a call that blocks it, another thread, a database that another holds locked.
    def end() -> None:
        log.warning("ended although some work did not end")
        os._exit(0)

    last = threading.Timer(seconds, end)
    last.daemon = True
    last.start()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # At the end of graceful_timeout Hypercorn cancels the connections that are left, over which Python 3.11's streams trip;
    # it does not expect the kernel to end one that is not read (_listen).
    error = context.get("exception")
    cut_off = isinstance(error, TimeoutError) and error.errno == errno.ETIMEDOUT
    if not (cut_off or isinstance(error, asyncio.CancelledError)):
        loop.default_exception_handler(context)


def _listen(host: str, port: int, backlog: int, send_timeout: float) -> socket.socket:
    """Return a listening socket. Raises AddressUnusable."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise AddressUnusable(f"cannot listen on {host}:{port}: {error}") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            # Of each connection too: whoever reads nothing of what waits to be sent is cut off by the kernel, once the
            # buffers are full; Hypercorn would wait for ever (RFC 5482).
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(send_timeout * 1000))
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise AddressUnusable(f"cannot listen on {host}:{port}: {reason}; name another with --bind HOST:PORT") from None
    return listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
