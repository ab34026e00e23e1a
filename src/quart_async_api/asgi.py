"""The app for ASGI servers: `hypercorn -c hypercorn.toml quart_async_api.asgi:app`."""

from .loading import load_app
from .server.hypercorn_internals import install
from .settings import Settings

install()  # for Hypercorn only

app = load_app(Settings.from_environment())
