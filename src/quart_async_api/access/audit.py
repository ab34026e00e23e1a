"""The audit log: one line per change, and refused requests. It never contains secrets, bodies or arguments."""

import logging
from collections.abc import Mapping

from .caller import Caller

log = logging.getLogger("quart_async_api.audit")

OPERATOR = Caller(name="operator")  # anyone who can use the command line


def record(action: str, by: Caller, target: str | None = None, request_id: str | None = None) -> None:
    """Record that `by` did `action`, such as `job.submit`, to the object with the id `target`."""
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


def refused(
    address: str,
    counts: Mapping[int, int],
    by: Caller | None = None,
    target: str | None = None,
    request_id: str | None = None,
) -> None:
    """Record refused requests of `address`, counted by status. `by`, `target` and `request_id` are of the first one."""
    log.info(
        "access.refuse %s by %s: %s",
        target or "-",
        address or "a local client",
        ", ".join(f"{count} x {status}" for status, count in sorted(counts.items())),
        extra={
            "action": "access.refuse",
            "address": address,
            "refused": {str(status): count for status, count in sorted(counts.items())},
            "key": by and by.key_id,
            "key_name": by and by.name,
            "target": target,
            "request_id": request_id,
        },
    )
