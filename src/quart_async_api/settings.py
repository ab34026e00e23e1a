"""Every setting: name, meaning, default and bounds. Read once, at start, from QAA_* variables and .env."""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from .errors import SettingsError
from .moments import duration

PREFIX = "QAA_"
_PACKAGED_DATA = Path(__file__).with_name("data.json")


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Http1(StrEnum):
    FAST = "fast"
    HYPERCORN = "hypercorn"


class JobsEngine(StrEnum):
    EMBEDDED = "embedded"
    DISTRIBUTED = "distributed"


def _split(value: object) -> object:
    return (
        tuple(part for part in (part.strip() for part in value.split(",")) if part) if isinstance(value, str) else value
    )


def _is_http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:  # whose message has the value
        raise ValueError("must be an http:// or https:// URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return value


def _are_modules(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError("each must be the name of a module, like package.module")
    return names


def _names_function(value: str) -> str:
    module, _, name = value.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ValueError("must name a function of a module, like shop.app:make_app")
    return value


HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
Duration = Annotated[float, BeforeValidator(lambda value: duration(value) if isinstance(value, str) else value)]
CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_split)]
_LOWERCASE = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(BaseModel):
    """One field per setting. Its variable is `QAA_<NAME>`; its description is the documented meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database_url: str = Field(
        default="sqlite://quart_async_api.db",
        description="URL of the database: `sqlite://relative.db`, `sqlite:///absolute.db`, "
        "`postgresql://user:password@host:port/name?sslmode=…` or `postgresql://user@/name?host=/folder/of/a/socket`. "
        "PostgreSQL needs the extra `postgresql`. If not set, `DATABASE_URL` is used",
    )
    delay: float = Field(
        default=5.0, ge=0, le=3600, description="Seconds that each tutorial route takes (`/gather` always takes 3)"
    )
    data_file: Path = Field(
        default=_PACKAGED_DATA, description="Path of the JSON file that `/get` returns (default: a packaged sample)"
    )
    comic_base_url: HttpUrl = Field(default="https://xkcd.com", description="Base URL of the comics")
    external_api_url: HttpUrl = Field(
        default="https://jsonplaceholder.typicode.com/todos/1",
        description="URL of the JSON document that `/external-api` fetches",
    )
    upstream_timeout: float = Field(
        default=10.0, gt=0, le=600, description="Seconds for one upstream call, including its retries"
    )
    upstream_concurrency: int = Field(
        default=100, ge=1, le=10_000, description="Maximum concurrent upstream calls per process; further calls wait"
    )
    upstream_max_bytes: int = Field(
        default=10 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="Maximum size of an upstream response in bytes, after decompression",
    )
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=1024**3, description="Maximum size of a request body in bytes; larger: 413"
    )
    max_header_bytes: int = Field(
        default=16 * 1024,
        ge=1024,
        le=64 * 1024,
        description="Maximum size of all header fields of a request in bytes; larger: 431",
    )
    max_query_bytes: int = Field(
        default=8 * 1024,
        ge=256,
        le=64 * 1024,
        description="Maximum size of the query, and of the path, in bytes; larger: 414",
    )
    max_streams: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Maximum open event streams and WebSockets per process, 1 % of it reserved for admin keys; more: 503",
    )
    stream_quota: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Maximum open event streams and WebSockets per process for one API key, or for one address without a key; "
        "more: 429; `0` means no limit; not applied on a loopback address while no key exists",
    )
    max_connections: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Connections that a process holds open (1-1000000); fewer where the limit of open files is low; "
        "`serve` applies it",
    )
    max_connections_per_address: int = Field(
        default=2500,
        ge=1,
        le=1_000_000,
        description="Connections of one address (IPv6: its /64) that a process holds open (1-1000000), and at most half of "
        "all; `QAA_TRUSTED_PROXIES` are exempt; `serve` applies it",
    )
    max_message_bytes: int = Field(
        default=4096,
        ge=64,
        le=1024 * 1024,
        description="Maximum size of a message from a WebSocket client in bytes; larger: close code 1009",
    )
    header_timeout: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="Seconds to receive the head of a request, and seconds that a connection may be idle; `serve` only",
    )
    body_timeout: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds to receive the body of a request; longer: 408"
    )
    http1: Annotated[Http1, _LOWERCASE] = Field(
        default=Http1.FAST,
        description="Implementation of HTTP/1.1: `fast`, the service's own, or `hypercorn`; `serve` only",
    )
    send_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds that a client may stop reading before its connection is reset; "
        "applies to `serve`, and to WebSockets on Linux only",
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=r"^(off|[1-9][0-9]{0,8}/(second|minute|hour))$",
        description="Requests per API key, or per address (IPv6: per /64) without a key: `N/second`, `N/minute`, `N/hour` or "
        "`off`. Each process counts separately. If not set: `off` on a loopback address while no key exists, else `600/minute`",
    )
    refusal_limit: str = Field(
        default="20/minute",
        pattern=r"^(off|[1-9][0-9]{0,8}/(second|minute|hour))$",
        description="Requests per address (IPv6: per /64) that are refused with 401 or 403; further ones get 429 instead, "
        "allowed requests are not affected: `N/second`, `N/minute`, `N/hour` or `off`. Each process counts separately",
    )
    app: Annotated[str, AfterValidator(_names_function)] | None = Field(
        default=None,
        description="Function that makes the app, as `module:make_app`, for all commands (default: the service as it is)",
    )
    tasks: Annotated[CommaSeparated, AfterValidator(_are_modules)] = Field(
        default=(), description="Modules with additional tasks, comma-separated"
    )
    jobs_engine: Annotated[JobsEngine, _LOWERCASE] = Field(
        default=JobsEngine.EMBEDDED,
        description="How jobs find their workers: `embedded` polls the jobs table; `distributed` hands out tickets, to workers "
        "on any host, and needs PostgreSQL and the extra `distributed`",
    )
    job_concurrency: int = Field(default=100, ge=1, le=100_000, description="Maximum running jobs per process")
    job_queue_limit: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="Maximum queued jobs in the database, including delayed jobs; more: 503",
    )
    job_quota: int = Field(
        default=1000,
        ge=0,
        le=10_000_000,
        description="Maximum queued and running jobs per API key; more: 429; `0` means no limit",
    )
    max_delay: Duration = Field(
        default=30 * 86_400.0,
        ge=0,
        le=10 * 365 * 86_400,
        description="Maximum `delay` of a job, and maximum time until its `run_at`: seconds, or `12h`, `30d`; more: 422",
    )
    kept_jobs: int = Field(
        default=1_000_000,
        ge=0,
        le=1_000_000_000,
        description="Maximum stored jobs per API key, and of all callers without a key; more: 429; `0` means no limit",
    )
    kept_bytes: int = Field(
        default=2 * 1024**3,
        ge=0,
        le=1024**5,
        description="Maximum bytes that are stored for an API key, and for all callers without a key: arguments, results, "
        "events and callbacks of jobs, responses to an Idempotency-Key; more: 429; `0` means no limit",
    )
    max_users: int = Field(
        default=100_000, ge=0, le=1_000_000_000, description="Maximum stored users; more: 429; `0` means no limit"
    )
    job_max_events: int = Field(default=10_000, ge=10, le=1_000_000, description="Maximum stored events per job")
    job_log_max_bytes: int = Field(
        default=256 * 1024,
        ge=0,
        le=1024**3,
        description="Maximum bytes that one attempt of a job writes to the service's log and to its events",
    )
    lease_seconds: float = Field(
        default=30.0, ge=0.5, le=3600, description="Seconds without a heartbeat after which a process loses its jobs"
    )
    cancel_seconds: float = Field(
        default=5.0, ge=0, le=3600, description="Seconds to wait for a cancelled task to end before it is abandoned"
    )
    crash_limit: int = Field(default=3, ge=1, le=1000, description="Number of process crashes after which a job fails")
    result_ttl: Duration = Field(
        default=7 * 86_400.0,
        ge=1,
        le=10 * 365 * 86_400,
        description="Lifetime of finished jobs: seconds, or `12h`, `7d`",
    )
    result_max_bytes: int = Field(
        default=1024 * 1024,
        ge=1024,
        le=1024**3,
        description="Maximum size of the arguments, and of the result, of a job in bytes",
    )
    tombstone_ttl: Duration = Field(
        default=30 * 86_400.0,
        ge=1,
        le=10 * 365 * 86_400,
        description="Lifetime of the record of an expired job, which answers 410: seconds, or `12h`, `7d`",
    )
    idempotency_ttl: Duration = Field(
        default=86_400.0,
        ge=1,
        le=365 * 86_400,
        description="Lifetime of the stored response to an Idempotency-Key: seconds, or `12h`, `7d`",
    )
    callback_schedule: Annotated[tuple[Annotated[float, Field(ge=0, le=7 * 86_400)], ...], BeforeValidator(_split)] = (
        Field(
            default=(0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
            min_length=1,
            max_length=100,
            description="Seconds to wait before each try of a callback, comma-separated; up to 10 % of jitter is added",
        )
    )
    callback_timeout: float = Field(default=20.0, gt=0, le=600, description="Seconds for one try of a callback")
    callback_concurrency: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Maximum origins that a process sends callbacks to at once, at most half of them for one API key; "
        "each origin gets one callback at a time",
    )
    callback_after_revoke: bool = Field(
        default=False,
        description="`1` sends the callbacks of a revoked API key; otherwise they fail, and an admin can replay them",
    )
    callback_hosts: CommaSeparated = Field(
        default=(),
        description="Host names allowed in callback URLs, comma-separated; `.example.com` includes subdomains (default: any)",
    )
    callback_allow_private: bool = Field(
        default=False,
        description="`1` allows callbacks to private addresses, over http and to any port; for development only",
    )
    inbox: bool = Field(
        default=False,
        description="`1` lets the first page of the console receive callbacks itself, at a loopback address; for development "
        "only; one process of `serve` only, and a worker needs it too, to call the receiver",
    )
    callback_secret_overlap: Duration = Field(
        default=86_400.0,
        ge=0,
        le=365 * 86_400,
        description="Time after a rotation during which callbacks carry the old signature too: seconds, or `12h`, `7d`",
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="Seconds to wait for running work at shutdown"
    )
    session_ttl: Duration = Field(
        default=43_200.0,
        ge=1,
        le=365 * 86_400,
        description="Lifetime of a browser session: seconds, or `12h`, `7d`",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="`1` serves addresses other than loopback without a key, to everyone who can connect, until a key exists",
    )
    allowed_hosts: CommaSeparated = Field(
        default=(),
        description="Host names accepted in requests, comma-separated, in addition to loopback names and the bound address; "
        "`.example.com` includes subdomains, `*` accepts any name",
    )
    trusted_proxies: CommaSeparated = Field(
        default=(),
        description="Addresses or networks (`10.0.0.0/8`) of proxies whose forwarded headers are trusted, comma-separated",
    )
    cors_origins: CommaSeparated = Field(
        default=(),
        description="Origins (`https://app.example.com`) whose pages may call the service from a browser, comma-separated",
    )
    strict_transport_security: str = Field(
        default="",
        pattern=r"^(max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?)?$",
        description="Value of the header `Strict-Transport-Security` of responses over https, like "
        "`max-age=31536000; includeSubDomains` (default: not sent)",
    )
    overview_minutes: int = Field(
        default=60,
        ge=0,
        le=180,
        description="Minutes that the overview of the console shows, and whose figures the database keeps (0-180); `0`: "
        "nothing is counted for it or written",
    )
    metrics: bool = Field(default=True, description="`0` turns `/metrics` off; it needs the extra `observability`")
    loop_block_seconds: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="Seconds for which a call may block the event loop before the log names it with its stack; `0` turns "
        "the watch off",
    )
    log_format: Annotated[LogFormat, _LOWERCASE] = Field(
        default=LogFormat.TEXT, description="Format of the log: `text` for people, `json` for programs"
    )
    log_level: Annotated[LogLevel, _LOWERCASE] = Field(default=LogLevel.INFO, description="Lowest level that is logged")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ValueError("each must be an address or a network, like 10.0.0.0/8") from None
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            try:
                parts, port = urlsplit(origin), urlsplit(origin).port
            except ValueError:
                raise ValueError("each must be an origin, like https://app.example.com") from None
            # As a browser writes it (RFC 6454 section 6.2), or it would never be the same.
            default_port = {"http": 80, "https": 443}.get(parts.scheme)
            if not default_port or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc.lower()}":
                raise ValueError("each must be an origin, like https://app.example.com, in lower case")
            if parts.username is not None or port == default_port:
                raise ValueError("each must have no user name and no default port")
        return value

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Nothing: a log line or a traceback that shows the settings shows no password."""
        return iter(())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Self:
        """Read the settings from `environ` (default: the process's) over the file `dotenv` (default: `.env` here).

        An empty value means the default. Raises SettingsError, whose message is one line, for a wrong value or an
        unknown QAA_ name. It never shows the value: any may hold a password, put there by mistake or in a URL.
        """
        file = dotenv or Path(".env")
        try:
            lines = dotenv_values(file)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} cannot be read: {error}") from None
        given = {**lines, **(os.environ if environ is None else environ)}
        known = {variable(field) for field in cls.model_fields}
        if unknown := sorted(name for name in given if name.startswith(PREFIX) and name not in known):
            raise SettingsError(f"{unknown[0]} is not a setting; there are {', '.join(sorted(known))}")
        values: dict[str, Any] = {name: value for name in known if (value := given.get(name))}
        if "QAA_DATABASE_URL" not in values and (database_url := given.get("DATABASE_URL")):
            values["QAA_DATABASE_URL"] = database_url
        try:
            return cls.model_validate({name.removeprefix(PREFIX).lower(): value for name, value in values.items()})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = variable(str(first["loc"][0]))
            raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None


def variable(field: str) -> str:
    """Return the environment variable of a field: `QAA_DELAY` for `delay`."""
    return PREFIX + field.upper()
