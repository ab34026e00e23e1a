"""The service with our tasks and our route."""

from quart import Quart

from quart_async_api import Settings, create_app

from . import report, tasks


def make_app(settings: Settings | None = None) -> Quart:
    app = create_app(settings, tasks=[tasks])
    app.register_blueprint(report.blueprint)
    return app
