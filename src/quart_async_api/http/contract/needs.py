"""@needs: the access rules of a route, and its place in rate limits and audit log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from ...access.caller import Scope as Scope  # for users of @needs

View = TypeVar("View", bound=Callable[..., object])

COOKIE = "qaa_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
STARTS_JOB = "job.submit"  # in the audit log

DELIVERED = "__delivers__"  # attribute of a view that @delivers made: its task
_ATTRIBUTE = "__needs__"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route needs. One that does not say it is guarded in full, as these defaults are.

    `scope`: of the key, once keys are made; None: `read` for a safe method, else `write`; "any": each key will do.
    `open`: nobody needs a key, and no key is looked at. `signs_in`: callers without a key come here for a session.
    `limited`: requests count for the rate limit. `audited`: the name of the change in the audit log; None: method and endpoint.
    `same_site`: pages of other sites are refused for a safe method too.
    """

    scope: Scope | Literal["any"] | None = None
    open: bool = False
    signs_in: bool = False
    limited: bool = True
    audited: str | None = None
    same_site: bool = False

    @property
    def keyless(self) -> bool:
        return self.open or self.signs_in


GUARDED = Needs()


def needs(
    scope: Scope | Literal["any"] | None = None,
    *,
    open: bool = False,
    signs_in: bool = False,
    limited: bool = True,
    audited: str | None = None,
    same_site: bool = False,
) -> Callable[[View], View]:
    """Say what a view needs, in all of its methods: see `Needs`. A method of a `MethodView` says its own.

    A decorator between it and the route has to use `functools.wraps`, else this is lost and the route guarded in full.
    Raises ValueError for an unknown scope, TypeError where it is not called, or said twice.
    """
    if callable(scope):
        raise TypeError("write @needs(...), with parentheses")
    wanted = Needs(scope if scope in (None, "any") else Scope(scope), open, signs_in, limited, audited, same_site)

    def say(view: View) -> View:
        if hasattr(view, _ATTRIBUTE) and not hasattr(view, DELIVERED):  # which has a default
            raise TypeError(f"@needs is said twice of {view.__name__}: write one with all arguments")
        setattr(view, _ATTRIBUTE, wanted)
        return view

    return say


def needs_of(view: object, method: str) -> Needs:
    """Return what a view needs for this method; GUARDED if it does not say so."""
    return said_by(view, method) or GUARDED


def said_by(view: object, method: str) -> Needs | None:
    """Return what the view says that it needs for this method."""
    view_class = getattr(view, "view_class", None)
    # HEAD and OPTIONS are answered for GET. What a method does not say, its class does.
    handler = getattr(view_class, method.lower(), None) or getattr(view_class, "get", None)
    for place in (handler, view, getattr(view_class, "dispatch_request", None), view_class):
        said: Needs | None = getattr(place, _ATTRIBUTE, None)
        if said is not None:
            return said
    return None
