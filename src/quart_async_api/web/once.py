"""A form has effect once: a hidden field makes it an Idempotency-Key, for a double click and for a reload of its answer."""

import secrets
from collections.abc import Awaitable, Callable

from markupsafe import Markup
from quart import request

from ..errors import KeyTaken
from ..http.delivery.idempotency import kept
from ..http.guards.access import caller, state
from ..http.parts import parts
from ..jobs.states import JobRecord
from ..services.idempotency import JobReply, Key, Reply, digest

_NAME = "once"
_FIELD = Markup('<input type="hidden" name="{}" value="{}">')


def once() -> Markup:
    """Return the field, with a new value."""
    return _FIELD.format(_NAME, secrets.token_urlsafe(16))


async def form_key(*about: str) -> Key | None:
    """Return the key of the posted form; None if it has none. With other content, it is another form.

    `about`: which of several effects.
    """
    sent = await request.form
    if not sent.get(_NAME):
        return None
    owner = caller().key_id or ""
    content = (text for field in sorted(sent.items(multi=True)) for text in field)
    name = digest(owner, request.path, *about, *content)
    return Key(name, name, parts().settings.idempotency_ttl, owner)


async def start_once(submit: Callable[[JobReply | None], Awaitable[JobRecord]], *about: str) -> tuple[str, bool]:
    """Return the id of the job that the posted form starts, and whether it is new: the form may have started it before."""
    key = await form_key(*about)
    first = await kept(key)
    if first is None:
        try:
            job = await submit(None if key is None else JobReply(key, _leads_to))
        except KeyTaken:  # by the first of two clicks
            first = await kept(key)
            if first is None:
                raise
        else:
            state().started = job.id
            return job.id, True
    state().changes = False
    return str(first.job_id), False


def _leads_to(job: JobRecord) -> Reply:
    return Reply(303, {}, "", job.id)
