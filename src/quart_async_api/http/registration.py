"""Checks of an app's routes: each when it is added, and all together before the start."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from quart import Quart

from ..errors import RouteTaken
from .contract.arguments import IN_BODY
from .contract.needs import DELIVERED, said_by
from .contract.operations import ATTRIBUTE, Operation

if TYPE_CHECKING:
    from ..tasks import Task

_PARAMETER = re.compile(r"<(?:(?P<converter>\w+)(?:\([^>]*\))?:)?(?P<name>\w+)>")
_DELIVERABLE = frozenset({"GET", "DELETE", *IN_BODY})
_BY_ITSELF = {"HEAD", "OPTIONS"}  # added to every route that has GET, or any method


def refuse_undeliverable(rule: str, view: object, options: dict[str, Any], tasks: "Mapping[str, Task]") -> None:
    """Raise ValueError for a view of @delivers that is open, or that cannot be given its task's arguments.

    Also for one of a task that is not among the `tasks` of the app: nobody would run its jobs.
    """
    task: Task | None = getattr(view, DELIVERED, None)
    if task is None:
        return
    said = said_by(view, "GET")
    known = task.arguments.model_fields
    reason = None
    if tasks.get(task.name) is not task:
        reason = "the app has no such task: name it, or its module, in create_app(tasks=[…])"
    elif said is not None and said.keyless:
        reason = "its caller may start a job, so it cannot be open"
    elif unknown := [found["name"] for found in _PARAMETER.finditer(rule) if found["name"] not in known]:
        reason = f"the task has no argument {unknown[0]!r}; it has {', '.join(known) or 'none'}"
    elif options.get("defaults"):
        reason = "give the argument its default in the task"
    elif options.get("websocket"):
        reason = "it is no WebSocket; GET /jobs/{id}/ws watches a job"
    elif methods := {method.upper() for method in options.get("methods") or ()} - _BY_ITSELF - _DELIVERABLE:
        reason = f"it cannot support {', '.join(sorted(methods))}, only {', '.join(sorted(_DELIVERABLE))}"
    if reason is not None:
        raise ValueError(f"route {rule} of task {task.name!r}: {reason}")


def refuse_other_parameters(rule: str, view: object, options: dict[str, Any]) -> None:
    """Raise ValueError for a view of @operation(path=Model), if the path has other parameters than the model has fields."""
    view_class = getattr(view, "view_class", None)
    there = {found["name"] for found in _PARAMETER.finditer(rule)} | set(options.get("defaults") or ())
    for handler in (view,) if view_class is None else vars(view_class).values():
        contract: Operation | None = getattr(handler, ATTRIBUTE, None)
        if contract is not None and (model := contract.path) is not None and there != model.model_fields.keys():
            raise ValueError(
                f"route {rule}: its path has {_listed(there)}, but path={model.__name__} has {_listed(model.model_fields)}: "
                "give both the same names"
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names))) or "no parameter"


def refuse_taken(app: Quart) -> None:
    """Raise RouteTaken if two routes match the same requests: the later one would never be called."""
    taken: dict[tuple[object, ...], str] = {}
    for rule in app.url_map.iter_rules():
        # Names and converters of parameters are ignored: /user/<int:id> matches requests for /user/<user_id>.
        pattern = _PARAMETER.sub(lambda found: "<path>" if found["converter"] == "path" else "<>", rule.rule)
        for method in _methods(rule.methods):
            place = (rule.host, rule.subdomain, pattern, rule.websocket, method)
            first = taken.setdefault(place, rule.endpoint)
            if first != rule.endpoint:
                raise RouteTaken(
                    f"{'WebSocket' if rule.websocket else method} {rule.rule} of {rule.endpoint!r} is taken by {first!r}: "
                    f"give one of them another path"
                )


def _methods(methods: Iterable[str] | None) -> set[str]:
    return set(methods or ()) - _BY_ITSELF
