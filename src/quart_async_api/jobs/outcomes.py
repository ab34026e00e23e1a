"""How a run of a task ends, whoever waits for it: in a result, or in an error that says what a waiting caller is told."""

from ..db.failures import as_unavailable
from ..errors import ServiceError
from ..upstream.client import UPSTREAM_ERRORS, translate


def known(error: Exception) -> ServiceError | None:
    """The service's own error for whatever a task or a handler raised; None for a fault of its code."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, UPSTREAM_ERRORS):
        return translate(error)
    return as_unavailable(error)
