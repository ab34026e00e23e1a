"""What an ASGI server is pointed at: `hypercorn -c hypercorn.toml quart_async_api.asgi:app`."""

from .app import create_app

app = create_app()
