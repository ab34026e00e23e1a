"""Quart's dispatch of a request, without the work that changes nothing: signals that nobody receives, a session that
cannot be, the same host and blueprints looked up again.

Each method here does what Quart's does. tests/unit/test_internals.py fails when Quart's changes.
"""

from collections.abc import Awaitable, Callable
from functools import cache, partial
from inspect import CO_COROUTINE
from typing import Any, ParamSpec

from quart import Quart, Request
from quart.ctx import RequestContext
from quart.routing import QuartMap, QuartRule
from quart.sessions import SecureCookieSessionInterface
from quart.signals import appcontext_tearing_down, request_finished, request_started, request_tearing_down
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, Rule, RuleFactory

from .quart_connection import ArrivingRequest, Connection

P = ParamSpec("P")

_MOST_HOSTS = 256  # clients choose the names


class LazyRule(QuartRule):
    """Compiles the functions that build its URLs on first use: few rules need them, and they take most of the time of adding
    one.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = cache(partial(super()._compile_builder, append_unknown))
        return lambda rule, /, **values: compiled()(rule, **values)


class KnownMap(QuartMap):
    """Remembers what a Host means, and the rules without parameters by their paths: both are the same for each request."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._hosts: dict[tuple[object, ...], tuple[str, str | None]] = {}
        self.fixed: dict[tuple[object, ...], Rule] = {}

    def add(self, rulefactory: RuleFactory) -> None:
        self.fixed.clear()
        super().add(rulefactory)

    def bind_to_request(
        self, request: BaseRequestWebsocket, subdomain: str | None, server_name: str | None
    ) -> MapAdapter:
        if request.trusted_hosts is not None:
            return super().bind_to_request(request, subdomain, server_name)
        key = request.scheme, request.headers.get("Host"), request.server, subdomain, server_name
        found = self._hosts.get(key)
        if found is None:
            adapter = super().bind_to_request(request, subdomain, server_name)
            if len(self._hosts) >= _MOST_HOSTS:
                self._hosts.clear()
            self._hosts[key] = adapter.server_name, adapter.subdomain
            return adapter
        return KnownAdapter(
            self,
            found[0],
            request.root_path,
            found[1],
            request.scheme,
            request.path,
            request.method,
            request.query_string.decode(),
        )


class KnownAdapter(MapAdapter):
    map: KnownMap

    def match(self, *args: Any, **options: Any) -> Any:
        if args or options != {"return_rule": True}:
            return super().match(*args, **options)
        domain = self.server_name if self.map.host_matching else self.subdomain
        key = domain, self.path_info, self.default_method, self.websocket
        known = self.map.fixed.get(key)
        if known is not None:
            return known, {}
        rule, values = super().match(return_rule=True)
        if not rule.arguments and not rule.defaults and rule.methods:  # so there are only so many keys
            self.map.fixed[key] = rule
        return rule, values


class SessionsWithKey(SecureCookieSessionInterface):
    """Open no session if the app has no secret key."""

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> Any:
        return await super().open_session(app, request) if app.secret_key else self.null_session_class()


class LeanQuart(Quart):
    asgi_http_class = Connection
    request_class: type[Request] = ArrivingRequest
    url_map_class = KnownMap
    url_rule_class = LazyRule
    session_interface = SessionsWithKey()

    def ensure_async(self, func: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
        code = getattr(func, "__code__", None)
        if code is not None and code.co_flags & CO_COROUTINE:
            return func
        return super().ensure_async(func)

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> ResponseTypes:
        if request_started.receivers:
            return await super().full_dispatch_request(request_context)
        result: ResponseReturnValue | HTTPException | None
        try:
            result = await self.preprocess_request(request_context)
            if result is None:
                result = await self.dispatch_request(request_context)
        except Exception as error:
            result = await self.handle_user_exception(error)
        return await self.finalize_request(result, request_context)

    async def finalize_request(
        self,
        result: ResponseReturnValue | HTTPException,
        request_context: RequestContext | None = None,
        from_error_handler: bool = False,
    ) -> ResponseTypes:
        if request_finished.receivers or from_error_handler:
            return await super().finalize_request(result, request_context, from_error_handler)
        return await self.process_response(await self.make_response(result), request_context)

    async def do_teardown_request(
        self, exc: BaseException | None, request_context: RequestContext | None = None
    ) -> None:
        if request_tearing_down.receivers or any(self.teardown_request_funcs.values()):
            await super().do_teardown_request(exc, request_context)

    async def do_teardown_appcontext(self, exc: BaseException | None) -> None:
        if appcontext_tearing_down.receivers or self.teardown_appcontext_funcs:
            await super().do_teardown_appcontext(exc)
