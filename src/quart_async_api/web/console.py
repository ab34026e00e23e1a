"""The console: its pages in the order of the menu, and what every template knows."""

from collections.abc import Iterator
from dataclasses import dataclass

from quart import Blueprint, current_app, request, url_for
from werkzeug.exceptions import HTTPException

from .. import __version__
from ..http.contract.needs import Scope, needs_of
from ..http.contract.openapi import ABOUT
from ..http.guards.access import caller
from ..http.routes import comics, sign_in
from . import (
    bulk,
    callbacks,
    docs,
    home,
    inbox,
    job,
    job_changes,
    jobs,
    keys,
    overview,
    run_again,
    tasks,
    try_it,
    users,
    workers,
)
from .errors import address_error, error_page
from .once import once

TUTORIAL: tuple[Blueprint, ...] = (users.blueprint,)
_PAGES = tuple(
    page.blueprint
    for page in (try_it, jobs, bulk, job_changes, job, run_again, overview, tasks, callbacks, workers, keys)
)
BLUEPRINTS: tuple[Blueprint, ...] = (home.blueprint, inbox.blueprint, *_PAGES, docs.blueprint)

# Endpoint and name in the menu.
_MENU = (
    ("home.home", "Home"),
    ("try_it.try_it", "Try it"),
    ("job_pages.jobs", "Jobs"),
    ("overview_pages.overview", "Overview"),
    ("task_pages.tasks", "Tasks"),
    ("callback_pages.callbacks", "Callbacks"),
    ("worker_pages.workers", "Workers"),
    ("user_pages.users", "Users"),
    ("key_pages.keys", "Keys"),
    ("docs.docs", "Docs"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of the menu; `current`: it leads to this page, or to the list that this page is about an item of."""

    address: str
    name: str
    current: bool


def _menu() -> Iterator[Entry]:
    """Yield the pages of this app that the caller may read."""
    here = request.path
    for endpoint, name in _MENU:
        if (view := current_app.view_functions.get(endpoint)) is None:
            continue
        scope = needs_of(view, "GET").scope
        if isinstance(scope, Scope) and caller().may(scope):
            address = url_for(endpoint)
            yield Entry(address, name, here == address or (address != "/" and here.startswith(f"{address}/")))


# Those of a browser, with the pages of rooms that have others beside them.
for _blueprint in (*BLUEPRINTS, *TUTORIAL, sign_in.blueprint, comics.blueprint):
    _blueprint.register_error_handler(Exception, error_page)
home.blueprint.app_errorhandler(HTTPException)(address_error)


@home.blueprint.app_context_processor
async def _shared() -> dict[str, object]:
    return {
        "app_title": current_app.extensions[ABOUT].title,
        "version": __version__,
        "menu": list(_menu()),
        "may": lambda scope: caller().may(Scope(scope)),
        "once": once,
        "has": current_app.view_functions.__contains__,
    }
