"""Every setting: its name, meaning, default and check. Read once, at start, from QAA_* variables and .env."""

import ipaddress
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from .errors import SettingsError

PREFIX = "QAA_"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PACKAGED_DATA = Path(__file__).with_name("data.json")


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _split(value: object) -> object:
    return (
        tuple(part for part in (part.strip() for part in value.split(",")) if part) if isinstance(value, str) else value
    )


def _is_http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return value


def _seconds(value: object) -> object:
    if isinstance(value, str) and value[-1:] in _UNITS:
        try:
            return float(value[:-1]) * _UNITS[value[-1]]
        except ValueError:
            pass
    return value


HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
Duration = Annotated[float, BeforeValidator(_seconds)]
CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_split)]
_LOWERCASE = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(BaseModel):
    """One value a setting; each field is the variable `QAA_<NAME>`, its description the documented meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    database_url: str = Field(
        default="sqlite://quart_async_api.db",
        description="`sqlite://relative.db`, `sqlite:///absolute.db` or `postgresql://user:password@host:port/name?sslmode=…`, "
        "also `…/name?host=/folder/of/a/socket` (needs the extra `postgresql`). `DATABASE_URL` is read where this is not set",
    )
    delay: float = Field(
        default=5.0, ge=0, le=3600, description="seconds that the tutorial routes take (`/gather` keeps its 2 and 3)"
    )
    data_file: Path = Field(
        default=_PACKAGED_DATA, description="the JSON file that `/get` answers with; a packaged sample by default"
    )
    comic_base_url: HttpUrl = Field(default="https://xkcd.com", description="where the comics come from")
    external_api_url: HttpUrl = Field(
        default="https://jsonplaceholder.typicode.com/todos/1",
        description="the JSON document that `/external-api` fetches",
    )
    upstream_timeout: float = Field(
        default=10.0, gt=0, le=600, description="seconds for one upstream call, its retries included"
    )
    upstream_concurrency: int = Field(
        default=100, ge=1, le=10_000, description="upstream calls at once; more wait their turn"
    )
    upstream_max_bytes: int = Field(
        default=10 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="the longest upstream answer that is read, in bytes, decompressed",
    )
    max_body_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=1024**3, description="the longest request body that is taken, in bytes"
    )
    max_header_bytes: int = Field(
        default=16 * 1024,
        ge=1024,
        le=64 * 1024,
        description="the longest header fields of a request that are taken, in bytes; past it: 431",
    )
    max_query_bytes: int = Field(
        default=8 * 1024,
        ge=256,
        le=64 * 1024,
        description="the longest query of a request that is taken, and the longest path, in bytes; past it: 414",
    )
    max_streams: int = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="event streams and WebSockets that a process holds open at once, the last hundredth for administrators; "
        "past it: 503",
    )
    stream_quota: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="event streams and WebSockets of one API key, else of one address, that a process holds open at once; "
        "past it: 429; `0`: no limit; on a loopback address with no key made there is none",
    )
    max_message_bytes: int = Field(
        default=4096,
        ge=64,
        le=1024 * 1024,
        description="the longest message that a client may send over a WebSocket, in bytes; past it: close code 1009",
    )
    header_timeout: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        description="seconds that a connection may take for the head of a request, and lie idle between two; `serve` heeds it",
    )
    body_timeout: float = Field(
        default=60.0, gt=0, le=3600, description="seconds that the body of a request may take; past it: 408"
    )
    send_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="seconds that a client may read nothing of what was sent to it, before it is cut off; "
        "`serve` on Linux heeds it",
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=r"^(off|[1-9][0-9]{0,8}/(second|minute|hour))$",
        description="requests for each API key, else for each address (IPv6: its /64): `N/second`, `N/minute`, `N/hour` or "
        "`off`; counted in each process by itself. Not set: `off` on a loopback address with no key made, else `600/minute`",
    )
    tasks: CommaSeparated = Field(default=(), description="modules with tasks of your own, comma-separated")
    job_concurrency: int = Field(default=100, ge=1, le=100_000, description="jobs that run at once in a process")
    job_queue_limit: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="jobs that are queued in all, delayed ones included; past it: 503",
    )
    job_quota: int = Field(
        default=1000,
        ge=0,
        le=10_000_000,
        description="jobs of one API key that are queued or running; past it: 429; `0`: no limit",
    )
    max_delay: Duration = Field(
        default=30 * 86_400.0,
        ge=0,
        le=10 * 365 * 86_400,
        description="the longest `delay` of a job, and the furthest `run_at` from now: seconds, or `30d`, `12h`; past it: 422",
    )
    job_max_events: int = Field(default=10_000, ge=10, le=1_000_000, description="events that are kept of a job")
    job_log_max_bytes: int = Field(
        default=256 * 1024,
        ge=0,
        le=1024**3,
        description="bytes that one attempt of a job may log to those who watch it",
    )
    lease_seconds: float = Field(
        default=30.0, ge=0.5, le=3600, description="seconds after which a process that does not answer loses its jobs"
    )
    cancel_seconds: float = Field(
        default=5.0, ge=0, le=3600, description="seconds that a cancelled run has to end, before it is abandoned"
    )
    crash_limit: int = Field(
        default=3, ge=1, le=1000, description="crashes of its process after which a job is not run again"
    )
    result_ttl: Duration = Field(
        default=7 * 86_400.0,
        ge=1,
        le=10 * 365 * 86_400,
        description="how long finished jobs stay: seconds, or `7d`, `12h`",
    )
    result_max_bytes: int = Field(
        default=1024 * 1024,
        ge=1024,
        le=1024**3,
        description="the longest arguments, and the longest result, of a job, in bytes",
    )
    tombstone_ttl: Duration = Field(
        default=30 * 86_400.0,
        ge=1,
        le=10 * 365 * 86_400,
        description="how long it is known that an expired job has been",
    )
    idempotency_ttl: Duration = Field(
        default=86_400.0, ge=1, le=365 * 86_400, description="how long the answer to an Idempotency-Key is kept"
    )
    callback_schedule: Annotated[tuple[Annotated[float, Field(ge=0, le=7 * 86_400)], ...], BeforeValidator(_split)] = (
        Field(
            default=(0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
            min_length=1,
            max_length=100,
            description="comma-separated seconds to wait before each try of a callback; jitter comes on top",
        )
    )
    callback_timeout: float = Field(default=20.0, gt=0, le=600, description="seconds for one try of a callback, in all")
    callback_concurrency: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="origins that a process calls back at once; one call at a time to each",
    )
    callback_hosts: CommaSeparated = Field(
        default=(),
        description="comma-separated names that callbacks may go to, `.example.com` for its subdomains; any by default",
    )
    callback_allow_private: bool = Field(
        default=False,
        description="`1` lets callbacks go to private addresses, over http and to any port: for development",
    )
    callback_secret_overlap: Duration = Field(
        default=86_400.0,
        ge=0,
        le=365 * 86_400,
        description="how long callbacks are signed with the old secret too, after another was made",
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, le=3600, description="seconds that running work is given at shutdown"
    )
    session_ttl: Duration = Field(
        default=43_200.0,
        ge=1,
        le=365 * 86_400,
        description="how long a browser stays signed in: seconds, or `12h`, `7d`",
    )
    allow_anonymous: bool = Field(
        default=False, description="`1` serves addresses other than loopback to anyone who reaches them, without a key"
    )
    allowed_hosts: CommaSeparated = Field(
        default=(),
        description="comma-separated names that requests may be addressed to, besides loopback names and the bound address; "
        "`.example.com` takes its subdomains too, `*` any name",
    )
    trusted_proxies: CommaSeparated = Field(
        default=(), description="comma-separated addresses or networks (`10.0.0.0/8`) whose forwarded headers count"
    )
    cors_origins: CommaSeparated = Field(
        default=(),
        description="comma-separated origins (`https://app.example.com`) whose pages may call this service from a browser",
    )
    log_format: Annotated[LogFormat, _LOWERCASE] = Field(
        default=LogFormat.TEXT, description="`text` for a person, `json` for a machine"
    )
    log_level: Annotated[LogLevel, _LOWERCASE] = Field(
        default=LogLevel.INFO, description="`debug`, `info`, `warning` or `error`"
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            # As a browser writes it (RFC 6454 section 6.2), or it would never be the same.
            default_port = {"http": 80, "https": 443}.get(parts.scheme)
            if not default_port or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc.lower()}":
                raise ValueError(f"{origin!r} is no origin; it looks like https://app.example.com")
            if parts.username is not None or parts.port == default_port:
                raise ValueError(f"{origin!r} must be given without user and default port, as browsers do")
        return value

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, dotenv: Path | None = None) -> Self:
        """Read the settings from `environ` (default: the process's) over the file `dotenv` (default: `.env` here).

        An empty value means the default. Raises SettingsError, whose message is one line, for a wrong value or an
        unknown QAA_ name.
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
            shown = "" if name == "QAA_DATABASE_URL" else f"={values[name]!r}"  # a URL may hold a password
            raise SettingsError(f"{name}{shown}: {first['msg'].removeprefix('Value error, ')}") from None


def variable(field: str) -> str:
    """The environment variable of a field: `delay` is `QAA_DELAY`."""
    return PREFIX + field.upper()
