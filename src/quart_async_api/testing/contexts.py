"""Contexts for unit tests of a task's body, without a service."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..client import Progress
from ..resources import Resource, found
from ..settings import Settings

if TYPE_CHECKING:
    import httpx


class _Fake:
    """`resources` are found by their types. Set `cancelled` to have the body stop.

    `reported` has the progress, and `logged` the lines that the body has reported.
    """

    def __init__(
        self,
        *,
        resources: Iterable[object] = (),
        settings: Settings | None = None,
        job_id: str = "00000000-0000-7000-8000-000000000000",
        attempt: int = 1,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.cancelled = False
        self.settings = settings or Settings()
        self.reported: list[Progress] = []
        self.logged: list[str] = []
        self._resources = {type(resource): resource for resource in resources}

    def resource(self, kind: type[Resource]) -> Resource:
        return found(self._resources, kind)

    def _report(self, current: float, total: float | None, message: str | None) -> None:
        percent = round(100 * current / total, 1) if total else None
        self.reported.append(Progress(current, total, percent, message))


class FakeContext(_Fake):
    """A TaskContext. `http` is what `ctx.http` returns."""

    def __init__(
        self,
        *,
        resources: Iterable[object] = (),
        http: "httpx.AsyncClient | None" = None,
        settings: Settings | None = None,
        job_id: str = "00000000-0000-7000-8000-000000000000",
        attempt: int = 1,
    ) -> None:
        super().__init__(resources=resources, settings=settings, job_id=job_id, attempt=attempt)
        self._http = http

    @property
    def http(self) -> "httpx.AsyncClient":
        if self._http is None:
            raise LookupError("this FakeContext has no HTTP client: make it with http=httpx.AsyncClient(…)")
        return self._http

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._report(current, total, message)

    async def log(self, text: str) -> None:
        self.logged.append(text)


class FakeThreadContext(_Fake):
    """A ThreadContext."""

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        self._report(current, total, message)

    def log(self, text: str) -> None:
        self.logged.append(text)
