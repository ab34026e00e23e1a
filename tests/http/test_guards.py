"""Who may ask, by which name, and from where; what each answer carries."""

import pytest
from quart import Quart, Response
from quart.testing import QuartClient

from quart_async_api import Settings, create_app
from quart_async_api.observability.tracing import outgoing_headers
from tests.each import each

REMOTE = {"server": ("192.0.2.1", 80)}


@each("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "localhost.", "192.0.2.1"])
async def test_loopback_names_and_the_bound_address_are_answered(app: Quart, host: str) -> None:
    scope = REMOTE if host == "192.0.2.1" else {}
    response = await app.test_client().get("/health/live", headers={"Host": host}, scope_base=scope)
    assert response.status_code == 200


@each(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "10.0.0.1", "[::2]"],
)
async def test_other_names_are_misdirected(client: QuartClient, host: str) -> None:
    response = await client.get("/users", headers={"Host": host})
    assert response.status_code == 421
    assert (await response.get_json())["type"] == "/problems/misdirected-request"


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (("api.example.com",), "api.example.com", 200),
        (("api.example.com",), "API.example.com:443", 200),
        (("api.example.com",), "x.api.example.com", 421),
        ((".example.com",), "x.y.example.com", 200),
        ((".example.com",), "example.com.evil", 421),
        (("*",), "anything", 200),
    ],
)
async def test_the_operator_names_more(settings: Settings, allowed: tuple[str, ...], host: str, status: int) -> None:
    app = create_app(settings.model_copy(update={"allowed_hosts": allowed}))
    response = await app.test_client().get("/health/live", headers={"Host": host})
    assert response.status_code == status


async def test_an_address_that_others_reach_is_refused_until_the_operator_means_it(settings: Settings) -> None:
    closed, opened = create_app(settings), create_app(settings.model_copy(update={"allow_anonymous": True}))
    headers = {"Host": "192.0.2.1"}
    async with closed.test_app():
        response = await closed.test_client().get("/openapi.json", headers=headers, scope_base=REMOTE)
        assert response.status_code == 403
        told = (await response.get_json())["detail"]
        assert "QAA_ALLOW_ANONYMOUS" in told
        assert "keys create" in told
        assert (await closed.test_client().get("/health/live", headers=headers, scope_base=REMOTE)).status_code == 200
    async with opened.test_app():
        assert (await opened.test_client().get("/openapi.json", headers=headers, scope_base=REMOTE)).status_code == 200


async def test_a_get_that_any_page_can_send_starts_no_job_where_the_browser_would_not_say_so(
    settings: Settings,
) -> None:
    app = create_app(settings.model_copy(update={"allow_anonymous": True, "callback_allow_private": True}))
    calls_back = "/test?callback_url=http://127.0.0.1:9/"
    async with app.test_app():

        async def status(path: str, method: str = "GET", *, scheme: str = "http", **headers: str) -> int:
            sent = {"Host": "192.0.2.1", **{name.replace("_", "-"): value for name, value in headers.items()}}
            client = app.test_client()
            call = client.get if method == "GET" else client.post
            return (await call(path, headers=sent, scheme=scheme, scope_base=REMOTE)).status_code

        for path in ("/start-task", calls_back):
            assert await status(path) == 403
            assert await status(path, Prefer="respond-async") == 202
            assert await status(path, scheme="https") == 202
            assert await status(path, Sec_Fetch_Site="none") == 202
        assert await status("/start-task", "POST") == 202
        assert await status("/test") == 200


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
@each(
    ("method", "path"),
    [
        ("POST", "/add-user"),
        ("POST", "/start-task"),
        ("GET", "/start-task"),
        ("PATCH", "/user/1"),
        ("DELETE", "/user/1"),
    ],
)
async def test_no_page_of_another_site_changes_anything(
    client: QuartClient, method: str, path: str, headers: dict[str, str]
) -> None:
    assert (await client.open(path, method=method, headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}]
)
async def test_the_services_own_pages_and_programs_do(client: QuartClient, headers: dict[str, str]) -> None:
    assert (await client.post("/start-task", headers=headers)).status_code == 202


async def test_a_page_of_another_site_may_link_here(client: QuartClient) -> None:
    assert (await client.get("/", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


async def test_pages_carry_a_strict_policy_and_data_is_never_sniffed(client: QuartClient) -> None:
    page, data = await client.get("/"), await client.get("/users")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert data.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in data.headers


async def test_a_page_whose_type_is_in_capitals_had_no_policy(app: Quart) -> None:
    @app.get("/capitals")
    async def capitals() -> Response:
        return Response("<p>", content_type="Text/HTML; charset=utf-8")

    page = await app.test_client().get("/capitals")
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("sent", ["abc", "x" * 128, "!~-{}"])
async def test_a_request_id_is_kept(client: QuartClient, sent: str) -> None:
    assert (await client.get("/users", headers={"X-Request-ID": sent})).headers["X-Request-ID"] == sent


@each("sent", [None, "", "x" * 129, "a b", "ü", "a\tb"])
async def test_a_missing_or_unfit_request_id_is_made_anew(client: QuartClient, sent: str | None) -> None:
    made = (await client.get("/users", headers={"X-Request-ID": sent} if sent else {})).headers["X-Request-ID"]
    assert made != sent
    assert len(made) == 32


async def test_the_callers_trace_goes_on_with_a_span_of_our_own(app: Quart, client: QuartClient) -> None:
    seen: dict[str, str] = {}

    @app.get("/seen")
    async def look() -> str:
        seen.update(outgoing_headers())
        return ""

    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await client.get("/seen", headers={"traceparent": f"00-{trace}-{span}-01", "tracestate": "a=1"})
    assert seen["traceparent"].startswith(f"00-{trace}-")
    assert span not in seen["traceparent"]
    assert seen["tracestate"] == "a=1"
    for bad in (
        f"00-{'0' * 32}-{span}-01",
        f"ff-{trace}-{span}-01",
        f"00-{trace}-{span}-01-x",
        f"00-{trace}-{span}",
        "x",
    ):
        await client.get("/seen", headers={"traceparent": bad})
        assert trace not in seen["traceparent"]
