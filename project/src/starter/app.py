"""The app. QAA_APP=starter.app:make_app names it for all commands."""

from quart_async_api import App, Settings, create_app

from . import models, routes, tasks


def make_app(settings: Settings | None = None) -> App:
    return create_app(
        settings,
        tutorial=False,
        title="starter-project",
        version="0.1.0",
        tasks=[tasks],
        models=[models],
        blueprints=[routes.blueprint],
    )
