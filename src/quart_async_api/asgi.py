"""The app for ASGI servers: `hypercorn -c hypercorn.toml quart_async_api.asgi:app`."""

from .app import create_app
from .server.hypercorn_internals import install

install()  # for Hypercorn only

app = create_app()
