"""The parts of the service, for the routes and guards of its app."""

from typing import cast

from quart import Quart, current_app

from ..resources import Resource, found
from ..service import Service

EXTENSION = "quart_async_api"


def parts() -> Service:
    """Return the parts of the app that handles this request."""
    return cast("Service", current_app.extensions[EXTENSION])


def parts_of(app: Quart) -> Service:
    """Return the parts of this app."""
    return cast("Service", app.extensions[EXTENSION])


def resource(kind: type[Resource]) -> Resource:
    """Return the instance of exactly `kind` that the app has opened, in a route. Raises ResourceMissing."""
    return found(parts().resources, kind)
