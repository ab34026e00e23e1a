"""callback_url and callback_events, in a query or a body: the target of a job's callbacks and their events."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field
from typing_extensions import TypeAliasType

from ...callbacks.outbox import TYPES
from ...callbacks.target import LONGEST_URL
from ...services.submissions import Callback
from ..guards.cross_site import require_change
from ..parts import parts


def _split(sent: object) -> object:
    """Accept `a,b` as a list, and ignore duplicates."""
    given = [sent] if isinstance(sent, str) else sent
    if not isinstance(given, list):
        return sent
    texts = [part for part in given if isinstance(part, str)]
    if len(texts) < len(given):
        return sent
    return list(dict.fromkeys(name.strip() for part in texts for name in part.split(",")))


# With a name, so that it is one type in generated clients.
EventType = TypeAliasType("EventType", Literal["job.succeeded", "job.failed", "job.cancelled", "job.progress"])


class CallbackWish(BaseModel):
    """The target and the events of a job's callbacks (Standard Webhooks)."""

    callback_url: str | None = Field(
        default=None,
        max_length=LONGEST_URL,
        description="https URL that receives a signed webhook when the job ends; the response is then a 202",
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
    )
    callback_events: Annotated[list[EventType], BeforeValidator(_split)] = Field(
        default=[],
        max_length=len(TYPES),
        description="Events to send, comma-separated or repeated (default: `job.succeeded,job.failed,job.cancelled`)",
    )


def callback_of(wish: CallbackWish) -> Callback | None:
    """Return the checked callback options of the request. Raises InvalidInput, Forbidden, InsufficientScope."""
    if wish.callback_url is not None:
        require_change()
    return parts().callbacks.wanted(wish.callback_url, wish.callback_events)
