"""A client of the service: Client for plain code, AsyncClient for coroutines, with the same methods.

with Client("http://127.0.0.1:8000") as client:
    job = client.submit("comic", {"number": 3})
    for event in client.watch(job):
        print(event.name, event.progress)
    print(client.result(job))

Receivers of callbacks use `verify` to check that the service sent them.
"""

from .clients import AsyncClient, Client
from .documents import Attempt, Callback, Event, FieldFault, Job, Problem, Progress, Status, Task, Worker
from .errors import (
    ClientError,
    Conflict,
    Forbidden,
    InvalidRequest,
    InvalidSignature,
    JobCancelled,
    JobFailed,
    NotFound,
    Refused,
    StillUnfinished,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from .verification import verify

__all__ = [
    "AsyncClient",
    "Attempt",
    "Callback",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "FieldFault",
    "Forbidden",
    "InvalidRequest",
    "InvalidSignature",
    "Job",
    "JobCancelled",
    "JobFailed",
    "NotFound",
    "Problem",
    "Progress",
    "Refused",
    "Status",
    "StillUnfinished",
    "Task",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "Worker",
    "verify",
]
