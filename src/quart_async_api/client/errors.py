"""Every error of the client.

ClientError
├── Unreachable                  no answer, however often it was asked
├── UnexpectedAnswer             something else than this service answers there
├── Refused                      it answered with a problem
│   ├── InvalidRequest           bad arguments, one entry a field (400, 422)
│   ├── Forbidden                no key, or not one that may do this (401, 403)
│   ├── NotFound                 no such job, or it has expired (404, 410)
│   ├── Conflict                 not in the state that it is in (409, 412)
│   └── Unavailable              busy or stopping, for longer than the client's patience (429, 503)
├── JobFailed                    there is a problem instead of a result
├── JobCancelled                 there is no result, and will be none
├── StillUnfinished              not done within the time that was given
└── InvalidSignature             what came is no callback of the service, or none of now
"""

from .documents import Job, Problem


class ClientError(Exception):
    """The service did not do what was asked."""


class Unreachable(ClientError):
    """No answer came. What was asked may have been done or not."""


class UnexpectedAnswer(ClientError):
    """The answer is none that this service gives."""


class Refused(ClientError):
    """The service answered with a problem."""

    def __init__(self, problem: Problem) -> None:
        faults = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in problem.errors)
        super().__init__(f"{problem.title}: {faults or problem.detail}")
        self.problem = problem


class InvalidRequest(Refused):
    """A value is not what is asked for; `problem.errors` has one entry for each."""


class Forbidden(Refused):
    """The token is missing, unknown, or may not do this."""


class NotFound(Refused):
    """There is no such job, or no longer."""


class Conflict(Refused):
    """What was asked for is not possible in the state that the job is in."""


class Unavailable(Refused):
    """The service takes no work now. Nothing was done."""


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
    """The job, here as it was last seen, did not end in time. It goes on."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(f"{job.task} job {job.id} is {job.status} after {seconds:g} s")
        self.job = job


class InvalidSignature(ClientError):
    """What came as a callback is none of the service, or not one of now. The message says what is wrong."""


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
    """The error for a problem."""
    return _BY_STATUS.get(problem.status, Refused)(problem)
