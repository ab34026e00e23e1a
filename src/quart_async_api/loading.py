"""The app, or the service alone, that the settings name: the same for all commands."""

from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING

from . import tutorial
from .db.packages import Packages
from .errors import ServiceError, SettingsError, told
from .service import Service
from .settings import Settings
from .tasks import import_here, load, registry

if TYPE_CHECKING:
    from .app import App


def load_app(settings: Settings) -> "App":
    """Make the app that QAA_APP names, or else the service as it is. Raises SettingsError."""
    from .app import App, create_app

    if settings.app is None:
        return create_app(settings)
    said = f"QAA_APP: {settings.app}"
    module, _, name = settings.app.partition(":")
    try:
        imported = import_here(module)
    except ServiceError:
        raise
    except Exception as error:
        raise SettingsError(f"{said}: {module} cannot be imported: {told(error, module)}") from error
    make = getattr(imported, name, None)
    if make is None:
        raise SettingsError(f"{said}: the module {module} has no {name}")
    if not _takes_settings(make) or isinstance(make, App):
        raise SettingsError(
            f"{said} is no function of the settings: write def {name}(settings), which returns create_app(settings, …)"
        )
    try:
        app = make(settings)
    except ServiceError:
        raise
    except Exception as error:
        raise SettingsError(f"{said} raised {told(error, module)}") from error
    if not isinstance(app, App):
        raise SettingsError(f"{said} returned {type(app).__name__}: return what create_app(settings, …) returns")
    return app


def load_service(settings: Settings) -> Service:
    """Make the service of `load_app`, for commands: without QAA_APP it needs no web framework. Raises SettingsError."""
    if settings.app is not None:
        return load_app(settings).service
    return Service(settings, registry((tutorial, *load(settings.tasks))))


def load_tables(settings: Settings) -> tuple[Settings, Packages]:
    """Return the settings of the app that QAA_APP names, and all packages with models. Without an app, it imports no task.

    Raises SettingsError.
    """
    service = Service(settings, {}) if settings.app is None else load_service(settings)
    return service.settings, service.database.packages


def _takes_settings(make: object) -> bool:
    if not callable(make) or iscoroutinefunction(make):
        return False
    try:
        signature(make).bind(None)
    except TypeError:
        return False
    return True
