"""What a server is pointed at: `hypercorn --workers 0 link_checker.asgi:app`."""

from .app import make_app

app = make_app()
