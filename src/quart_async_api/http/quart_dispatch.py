"""Quart's dispatch of a request, without the work that changes nothing: signals that nobody receives, a session that
cannot be, the same host and blueprints looked up again.

Where somebody receives signals or a context is kept, Quart's own methods are called. tests/http/test_dispatch.py compares the
two ways. tests/unit/test_internals.py fails when Quart's changes.
"""

from collections.abc import Awaitable, Callable
from functools import cache, cached_property, partial
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, ParamSpec, cast

from quart import Quart, Request, Response, signals
from quart.ctx import RequestContext
from quart.globals import _cv_app, _cv_request
from quart.routing import QuartMap, QuartRule
from quart.sessions import SecureCookieSessionInterface
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import BaseRequestWebsocket
from werkzeug.routing import MapAdapter, Rule, RuleFactory

from .quart_connection import Connection
from .quart_request import ArrivingRequest

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException

P = ParamSpec("P")

_MOST_HOSTS = 256  # clients choose the names
_RECEIVERS = [
    signal.receivers
    for signal in (
        signals.appcontext_pushed,
        signals.appcontext_popped,
        signals.appcontext_tearing_down,
        signals.request_started,
        signals.request_finished,
        signals.request_tearing_down,
    )
]


class LazyRule(QuartRule):
    """Compiles the functions that build its URLs on first use: few rules need them, and they take most of the time of adding
    one.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = cache(partial(super()._compile_builder, append_unknown))
        return lambda rule, /, **values: compiled()(rule, **values)


class KnownMap(QuartMap):
    """Remembers what a Host means, and the rules without parameters by their methods and paths."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._hosts: dict[tuple[object, ...], tuple[str, str | None]] = {}
        self.fixed: dict[tuple[str, str], Rule] = {}

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
        return MapAdapter(
            self,
            found[0],
            request.root_path,
            found[1],
            request.scheme,
            request.path,
            request.method,
            request.query_string.decode(),
        )


class LeanContext(RequestContext):
    """The context of a request. Its URL adapter is made when something wants it."""

    app: "LeanQuart"

    def __init__(self, app: "LeanQuart", request: Request, session: Any = None) -> None:
        self.app = app
        self.request_websocket = request
        self.request_websocket.json_module = app.json
        self.session = session
        self.preserved = False
        self.flashes = None
        self._cv_tokens = []
        self._after_request_functions = []

    @cached_property
    def url_adapter(self) -> MapAdapter | None:  # type: ignore[override]
        return self.app.create_url_adapter(self.request_websocket)

    def match_request(self) -> None:
        request, map = self.request_websocket, cast("KnownMap", self.app.url_map)
        if (
            self.app.config["SERVER_NAME"] is not None
            or map.host_matching
            or map.default_subdomain
            or self.app.subdomain_matching
            or request.trusted_hosts is not None
        ):  # the rule depends on the Host
            super().match_request()
            return
        key = request.method, request.path
        request.url_rule, request.view_args = cast("Any", map.fixed.get(key)), {}
        if request.url_rule is None:
            super().match_request()
            rule = request.url_rule
            if rule is not None and not rule.arguments and not rule.defaults and rule.methods:
                map.fixed[key] = rule  # so there are only so many keys


class SessionsWithKey(SecureCookieSessionInterface):
    """Open no session if the app has no secret key."""

    def __init__(self) -> None:
        self.none = self.null_session_class()  # which cannot be changed

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> Any:
        return await super().open_session(app, request) if app.secret_key else self.none


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

    async def handle_request(self, request: Request) -> ResponseTypes:
        outer = _cv_app.get(None)
        if (
            any(_RECEIVERS)
            or "_quart._preserve_context" in request.scope
            or self.config["PRESERVE_CONTEXT_ON_EXCEPTION"]
            or (outer is not None and outer.app is self)
        ):
            return await super().handle_request(request)
        context, around = LeanContext(self, request), self.app_context()
        in_request, in_app = _cv_request.set(context), _cv_app.set(around)
        sessions = self.session_interface
        context.session = await sessions.open_session(self, request)
        if context.session is None:
            context.session = await sessions.make_null_session(self)
        context.match_request()
        raised: BaseException | None = None
        try:
            try:
                return await self._answer(context)
            except Exception as error:
                return await self.handle_exception(error)
        except BaseException as error:
            raised = error
            raise
        finally:
            try:
                if any(self.teardown_request_funcs.values()):
                    await self.do_teardown_request(raised, context)
                await request.close()
            finally:
                _cv_request.reset(in_request)
                try:
                    if self.teardown_appcontext_funcs:
                        await self.do_teardown_appcontext(raised)
                finally:
                    _cv_app.reset(in_app)
                    raised = None  # else it would keep this frame alive, which keeps it

    async def _answer(self, context: RequestContext) -> ResponseTypes:
        """Do the same as `full_dispatch_request`, without its signals."""
        result: ResponseReturnValue | HTTPException | None
        try:
            result = await self.preprocess_request(context)
            if result is None:
                result = await self.dispatch_request(context)
        except Exception as error:
            result = await self.handle_user_exception(error)
        response = result if isinstance(result, Response) else await self.make_response(result)
        return await self.process_response(response, context)

    async def preprocess_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue | None:
        if request_context is None or any(self.url_value_preprocessors.values()):
            return await super().preprocess_request(request_context)
        for name in (None, *reversed(request_context.request.blueprints)):
            for function in self.before_request_funcs.get(name, ()):
                result = await self.ensure_async(function)()
                if result is not None:
                    return cast("ResponseReturnValue", result)
        return None

    async def process_response(
        self, response: ResponseTypes, request_context: RequestContext | None = None
    ) -> ResponseTypes:
        if request_context is None or not self.session_interface.is_null_session(request_context.session):
            return await super().process_response(response, request_context)
        for function in request_context._after_request_functions:
            response = await self.ensure_async(function)(response)
        for name in (*request_context.request.blueprints, None):
            for function in reversed(self.after_request_funcs.get(name, ())):
                response = await self.ensure_async(function)(response)
        return response
