"""The audit log: one line for each change that somebody made. Never a secret, a body or an argument."""

import logging

from .access import Caller

log = logging.getLogger("quart_async_api.audit")

OPERATOR = Caller(name="operator")  # whoever has the command line


def record(action: str, by: Caller, target: str | None = None, request_id: str | None = None) -> None:
    """That `by` did `action`, as in `job.submit`, to what has the id `target`."""
    log.info(
        "%s %s by %s",
        action,
        target or "-",
        by.name if by.key_id is None else f"{by.name} ({by.key_id})",
        extra={
            "action": action,
            "key": by.key_id,
            "key_name": by.name,
            "target": target,
            "request_id": request_id,
        },
    )
