"""The service with our tasks and our route."""

from quart_async_api import App, Settings, create_app

from . import report, tasks


def make_app(settings: Settings | None = None) -> App:
    return create_app(settings, tasks=[tasks], blueprints=[report.blueprint])
