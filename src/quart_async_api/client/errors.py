"""Every error of the client.

ClientError
├── Unreachable                  no response, also after retries
├── UnexpectedAnswer             the response is not one of this service
├── Refused                      the response is a problem
│   ├── InvalidRequest           bad arguments, one entry per field (400, 422)
│   ├── Forbidden                the key is missing, unknown or lacks the scope (401, 403)
│   ├── NotFound                 the job is unknown or has expired (404, 410)
│   ├── Conflict                 the state of the resource does not allow it (409, 412)
│   └── Unavailable              busy or shutting down for longer than `patience` (429, 503)
├── JobFailed                    the job ended with a problem
├── JobCancelled                 the job was cancelled and has no result
├── StillUnfinished              the job did not end within the timeout
└── InvalidSignature             a callback is not signed by this service, or too old
"""

from .documents import Job, Problem


class ClientError(Exception):
    """The service did not carry out the call."""


class Unreachable(ClientError):
    """No response arrived. The service may have processed the request or not."""


class UnexpectedAnswer(ClientError):
    """The response is not one that this service sends."""


class Refused(ClientError):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in problem.errors)
        super().__init__(f"{problem.title}: {faults or problem.detail}")
        self.problem = problem


class InvalidRequest(Refused):
    """At least one value is not allowed; `problem.errors` has one entry per value."""


class Forbidden(Refused):
    """The token is missing or unknown, or lacks the scope for this call."""


class NotFound(Refused):
    """The job is unknown or has expired."""


class Conflict(Refused):
    """The status of the job does not allow this operation."""


class Unavailable(Refused):
    """The service accepts no work now. Nothing was done."""


class JobFailed(ClientError):
    """The job failed, with `problem`."""

    def __init__(self, job: Job, problem: Problem) -> None:
        super().__init__(f"{job.task} job {job.id}: {problem.title}: {problem.detail}")
        self.job, self.problem = job, problem


class JobCancelled(ClientError):
    """The job was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.task} job {job.id} was cancelled")
        self.job = job


class StillUnfinished(ClientError, TimeoutError):
    """The job did not end in time and continues. `job` is its last known state."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(f"{job.task} job {job.id} is {job.status} after {seconds:g} s")
        self.job = job


class InvalidSignature(ClientError):
    """The callback is not signed by this service, or too old. The message has the reason."""


_BY_STATUS: dict[int, type[Refused]] = {
    400: InvalidRequest,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    422: InvalidRequest,
    429: Unavailable,
    503: Unavailable,
}


def refusal(problem: Problem) -> Refused:
    """Return the error for a problem."""
    return _BY_STATUS.get(problem.status, Refused)(problem)
