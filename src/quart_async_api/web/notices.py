"""What a page says after a change: `?notice=…` names it, with numbers at most. No text of a caller's is in an address."""

from quart import request

_NOTICES = {
    "cancelled": "The job is cancelled.",
    "cancelling": "The job was asked to stop. It ends within QAA_CANCEL_SECONDS.",
    "repeated": "This form was sent before: this is the job that it started. Open the form again to start another.",
    "retried": "This is the new job.",
    "bulk": "This job does it, and shows how far it is. Cancel it to stop halfway.",
    "replayed": "The callback will be sent again.",
    "added": "The user was added.",
    "saved": "The changes were saved.",
    "deleted": "The user was deleted.",
    "paused": "The task is paused: its jobs stay queued, and its schedule does not fire.",
    "resumed": "The task is active again: its queued jobs run.",
    "revoked": "The key was revoked. Its sessions have ended.",
}
# Of several jobs: what became of some, and of the others.
_DONE = {
    "cancel": ("cancelled, or asked to stop", "skipped: ended already"),
    "retry": (
        "submitted again",
        "skipped: only failed and cancelled jobs can be retried, within the limits of the queue",
    ),
}
MOST = 100  # jobs that a form changes: a page
_NONE = "No job is selected. Select some with the boxes at the left, then try again."


def notice() -> str | None:
    """Return what the address of this request wants said."""
    name = request.args.get("notice", "")
    if name in _NOTICES:
        return _NOTICES[name]
    if name not in _DONE:
        return None
    done, skipped = (request.args.get(each, 0, type=int) for each in ("done", "skipped"))
    if min(done, skipped) < 0 or done + skipped > MOST:
        return None
    if done + skipped == 0:
        return _NONE
    verb, why = _DONE[name]
    said = f"{_jobs(done)} {verb}." if done else ""
    return f"{said} {_jobs(skipped)} {why}.".strip() if skipped else said


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
