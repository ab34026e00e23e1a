"""Database URLs: parsing, and Tortoise's configuration for them."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import SettingsError
from .packages import OF_THE_SERVICE, Packages

LONGEST_LOG = 16 * 1024 * 1024  # bytes of SQLite's write-ahead log, once it could be emptied
FORMS = "`sqlite://relative.db`, `sqlite:///absolute.db` or `postgresql://user:password@host:port/name?sslmode=…`"
_WAIT = {"sqlite": 10.0, "postgresql": 5.0}
_POSTGRESQL_PARAMETERS = (
    "application_name", "channel_binding", "host", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A parsed URL. `printable` has no password; `file` is SQLite's; `credentials` are the engine's."""

    dialect: str
    printable: str
    file: Path | None
    credentials: dict[str, Any]

    @property
    def patience(self) -> float:
        """Seconds that one waits for a lock of another, or for a connection."""
        return float(self.credentials["timeout"] if self.file is None else self.credentials["busy_timeout"] / 1000)

    def conninfo(self, seconds: int) -> str:
        """Return the text with which libpq connects, for one connection of its own, within so many seconds."""
        from psycopg.conninfo import make_conninfo

        given = self.credentials
        names = ("host", "port", "user", "password", "application_name")
        return make_conninfo(
            dbname=given["database"],
            connect_timeout=seconds,
            tcp_user_timeout=seconds * 1000,
            **{name: given[name] for name in names} | given["server_settings"],
        )

    def config(self, packages: Packages = (OF_THE_SERVICE,)) -> dict[str, Any]:
        """Tortoise's configuration, with the models of these packages.

        The connection is named after the dialect: Tortoise keeps statements per name and process, and would send one
        dialect's to the other.
        """
        engine = {"sqlite": "safe_sqlite", "postgresql": "safe_psycopg"}[self.dialect]
        connection = {"engine": f"{__package__}.{engine}", "credentials": dict(self.credentials)}
        apps = {
            package.label: {
                "models": list(package.models),
                "migrations": package.migrations,
                "default_connection": self.dialect,
            }
            for package in packages
        }
        return {"connections": {self.dialect: connection}, "apps": apps, "use_tz": True, "timezone": "UTC"}


def parse(url: str) -> DatabaseUrl:
    """Parse `url`. Raises SettingsError, whose one line never holds the password.

    `timeout` in the query is how long to wait for a lock or a connection, in seconds: 10 for SQLite, 5 for PostgreSQL.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        return _sqlite(rest)
    if separator and scheme in ("postgresql", "postgres"):
        return _postgresql(f"postgresql://{rest}")
    raise SettingsError(f"the database URL must be {FORMS}")


def _sqlite(rest: str) -> DatabaseUrl:
    path, _, query = rest.partition("?")
    if not path or path.startswith(":memory:"):
        raise SettingsError("the database URL must name a file, `sqlite://relative.db` or `sqlite:///absolute.db`")
    file = Path(f"/{path.lstrip('/')}" if path.startswith("/") else path)  # SQLAlchemy writes four slashes
    wait = _timeout(_parameters(query, ("timeout",)), "sqlite")
    pragmas = {
        "busy_timeout": int(wait * 1000),
        "journal_mode": "WAL",
        "synchronous": "FULL",
        "foreign_keys": "ON",
        "journal_size_limit": LONGEST_LOG,
    }
    return DatabaseUrl("sqlite", f"sqlite://{path}", file, {"file_path": str(file), **pragmas})


def _postgresql(url: str) -> DatabaseUrl:
    try:
        importlib.import_module("psycopg")
        importlib.import_module("psycopg_pool")
    except ImportError as error:
        raise SettingsError(
            "a PostgreSQL database needs the extra `postgresql`: pip install 'psycopg[binary,pool]'"
        ) from error
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
        name = unquote(parts.path.removeprefix("/"))
    except ValueError:
        raise SettingsError(
            f"the database URL must be {FORMS}, with `@ : / ? # [ ]` in the password written as %40 and so on"
        ) from None
    if not name or "/" in name or parts.fragment:
        raise SettingsError("the database URL must name the database: `postgresql://user:password@host:port/name`")
    server = _parameters(parts.query, (*_POSTGRESQL_PARAMETERS, "timeout"))
    wait = _timeout(server, "postgresql")
    host = server.pop("host", None) or parts.hostname
    user = unquote(parts.username) if parts.username else None
    socket = host if host is not None and host.startswith("/") else None
    address = "" if host is None or socket else f"[{host}]" if ":" in host else host
    printable = (
        f"postgresql://{f'{user}@' if user else ''}{address}{f':{parts.port}' if parts.port else ''}/{name}"
        f"{f'?host={socket}' if socket else ''}"
    )
    credentials = {
        "host": host,
        "port": port,
        "user": user,
        "password": unquote(parts.password) if parts.password else None,
        "database": name,
        "minsize": 1,
        "maxsize": 10,
        "timeout": wait,
        "application_name": server.pop("application_name", "quart-async-api"),
        "server_settings": server,
    }
    return DatabaseUrl("postgresql", printable, None, credentials)


def _parameters(query: str, known: tuple[str, ...]) -> dict[str, str]:
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise SettingsError(  # and not which: it can be a part of a password with an unquoted `?`
                f"the database URL has an unknown parameter; there are {', '.join(known)}"
            )
    return given


def _timeout(parameters: dict[str, str], dialect: str) -> float:
    text = parameters.pop("timeout", None)
    try:
        wait = _WAIT[dialect] if text is None else float(text)
    except ValueError:
        wait = -1.0
    if not 0 < wait <= 3600:
        raise SettingsError("the database URL's timeout must be seconds, more than 0 and at most 3600")
    return wait
