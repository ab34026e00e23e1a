"""The order of the guards: what a request passes before its route, and its answer after it, from top to bottom.

Each guard is one call, and each request passes it once (`App` calls them). An app's own `before_request` and `after_request`
functions run between the two halves.
"""

import asyncio
from urllib.parse import quote

from quart import Quart, Request, Response, Websocket, redirect
from quart.globals import request_ctx, websocket_ctx
from quart.typing import ResponseReturnValue
from quart.wrappers import BaseRequestWebsocket
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestTimeout
from werkzeug.wrappers import Response as WerkzeugResponse

from ...access.caller import Scope
from ...errors import Unauthorized
from ...lifecycle import Lifecycle
from ...service import Service
from ...wire.request_state import state_of
from ..begun import Begun
from ..conditional import drop_bad_dates
from ..contract.needs import SAFE_METHODS, Needs, needs_of
from .access import bound_address, check_scope
from .audit import audit
from .authentication import authenticate, is_navigation
from .bounds import check_head
from .cors import allow_origin, is_preflight
from .cross_site import refuse_cross_site
from .headers import add_headers, challenge
from .hosts import AllowedHosts
from .rate_limits import count, tell_limits

SIGN_IN = "/sign-in"


class Guards:
    """The guards of `app`, in their order."""

    def __init__(self, app: Quart, service: Service) -> None:
        self._views = app.view_functions
        self._service = service
        self._settings = service.settings
        self._hosts = AllowedHosts(service.settings.allowed_hosts)
        self._needs: dict[tuple[str | None, str], Needs] = {}

    async def before_request(self, request: Request) -> ResponseReturnValue | None:
        service, state, needs = self._service, state_of(request.scope), self._needs_of(request, request.method)
        state.route = "" if request.url_rule is None else request.url_rule.rule
        check_head(request, self._settings)
        drop_bad_dates(request)
        self._hosts.check(request.headers.get("Host", ""), bound_address(request))
        if is_preflight(request):
            return Response(status=204)  # alike for every path: a browser brings no key yet
        try:
            await authenticate(service, request, state, needs)
        except Unauthorized:
            if not is_navigation(request):
                raise
            return _to_sign_in(request)
        is_safe = request.method in SAFE_METHODS
        scope = needs.scope or (Scope.READ if is_safe else Scope.WRITE)
        if not is_safe:
            state.changes = True
        if not needs.keyless and scope != "any" and request.method != "OPTIONS":
            check_scope(state, scope)
        if needs.same_site or not is_safe:
            refuse_cross_site(request)
            state.may_change = scope in (Scope.WRITE, Scope.ADMIN)
        count(service, request, state, needs)
        await read_body(request, service.lifecycle, self._settings.body_timeout)
        return None

    async def after_request(self, request: Request, response: Response) -> Response:
        state, needs = state_of(request.scope), self._needs_of(request, request.method)
        response = await tell_limits(self._service, request, state, needs, response)
        allow_origin(request, response, self._settings.cors_origins)
        audit(request, state, needs, response)
        add_headers(state, response)
        challenge(state, response)
        state.stream = None  # kept for a stream that the answer is not
        return response

    async def before_websocket(self, websocket: Websocket) -> None:
        service, state, needs = self._service, state_of(websocket.scope), self._needs_of(websocket, "GET")
        state.route = "" if websocket.url_rule is None else websocket.url_rule.rule
        check_head(websocket, self._settings)
        self._hosts.check(websocket.headers.get("Host", ""), bound_address(websocket))
        await authenticate(service, websocket, state, needs)
        if not needs.keyless and needs.scope != "any":
            check_scope(state, needs.scope or Scope.READ)
        refuse_cross_site(websocket)  # browsers let any page open a socket anywhere
        count(service, websocket, state, needs)

    async def after_websocket(
        self, websocket: Websocket, response: Response | WerkzeugResponse | None
    ) -> Response | WerkzeugResponse | None:
        if response is None:  # it was accepted, and is over
            return None
        state, needs = state_of(websocket.scope), self._needs_of(websocket, "GET")
        response = await tell_limits(self._service, websocket, state, needs, response)
        challenge(state, response)
        return response

    def _needs_of(self, asked: BaseRequestWebsocket, method: str) -> Needs:
        endpoint = asked.endpoint
        found = self._needs.get((endpoint, method))
        if found is None:
            found = needs_of(self._views.get(endpoint or _of_another_method(asked)), method)
            if endpoint is not None:  # there is no end of methods that no route has
                self._needs[endpoint, method] = found
        return found


async def read_body(request: Request, lifecycle: Lifecycle, seconds: float) -> None:
    """Read the body whole, within its limits, before any handler: one that ignores it must not let it pass.

    Raises RequestTimeout after so many seconds, ShuttingDown.
    """
    reading = Begun(request.body.__await__())
    if reading.is_done:
        return
    async with lifecycle.arrival():
        try:
            async with asyncio.timeout(seconds):
                await reading
        except TimeoutError:
            raise RequestTimeout from None


def _of_another_method(asked: BaseRequestWebsocket) -> str:
    """The endpoint that has the path for another method, whose word counts for the 405; empty if there is none."""
    error = asked.routing_exception
    adapter = (websocket_ctx if isinstance(asked, Websocket) else request_ctx).url_adapter
    if not isinstance(error, MethodNotAllowed) or not error.valid_methods or adapter is None:
        return ""
    try:
        return str(adapter.match(method=next(iter(error.valid_methods)))[0])
    except HTTPException:  # the path of a WebSocket
        return ""


def _to_sign_in(request: Request) -> WerkzeugResponse:
    """Lead to the page to sign in, and from there to the page asked for, or to that of a form which was not accepted."""
    if request.method in ("GET", "HEAD"):
        return redirect(f"{SIGN_IN}?next={quote(request.full_path.removesuffix('?'), safe='/')}", 303)
    pages = request_ctx.url_adapter
    page = request.path if pages is not None and pages.test(method="GET") else "/"
    return redirect(f"{SIGN_IN}?next={quote(page, safe='/')}&refused=form", 303)
