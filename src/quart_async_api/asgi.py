"""What an ASGI server is pointed at: `hypercorn -c hypercorn.toml quart_async_api.asgi:app`."""

from .app import create_app
from .server.hypercorn_internals import install

install()  # for Hypercorn; others do not have these classes

app = create_app()
