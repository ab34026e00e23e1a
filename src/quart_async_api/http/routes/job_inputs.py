"""What callers send about jobs: a new one, how to run one again, and the filters of a list."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ...errors import FieldError, InvalidInput
from ...jobs.states import Status
from ...moments import timestamp
from ...services.times import Moment
from ..contract.inputs import has_no_nul
from ..delivery.callbacks import CallbackWish
from ..paging import PageSize


def _is_whole(sent: object) -> object:
    return int(sent) if isinstance(sent, float) and sent.is_integer() else sent  # to JSON, 1.0 is an integer


class NewJob(CallbackWish):
    """A run of a task."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {"task": "test", "args": {}},
                {"task": "comic", "args": {"num": [614, 1024]}, "priority": 5, "timeout": 30, "max_attempts": 2},
                {"task": "start-task", "run_at": "2026-11-21T07:32:57Z"},
                {"task": "mock-db", "delay": 60},
            ],
            # Only one of them; null counts as absent.
            "not": {
                "required": ["run_at", "delay"],
                "properties": {"run_at": {"type": "string"}, "delay": {"type": "number"}},
            },
        },
    )

    task: str = Field(description="Name of the task, as in `GET /tasks`")
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of the task")
    priority: Annotated[
        int,
        Field(strict=True, ge=-100, le=100, description="Jobs with a higher priority run first"),
        BeforeValidator(_is_whole),
    ] = 0
    run_at: Moment | None = Field(default=None, description="Earliest start, with time zone; a past time means now")
    delay: float | None = Field(
        default=None,
        ge=0,
        le=10 * 365 * 86_400,
        strict=True,
        description="Seconds until the earliest start; not together with `run_at`",
    )
    timeout: float | None = Field(
        default=None, gt=0, le=10 * 365 * 86_400, strict=True, description="Maximum seconds for one attempt"
    )
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=100), BeforeValidator(_is_whole)] | None = None

    @model_validator(mode="after")
    def _is_told_when_once(self) -> Self:
        if self.run_at is not None and self.delay is not None:
            raise InvalidInput(FieldError("#/delay", "Give `run_at` or `delay`, not both"))
        return self


class Retry(BaseModel):
    """How to run a job again."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [{}, {"args": {}}]})

    args: dict[str, Any] | None = Field(
        default=None,
        description="Arguments of the new job (default: those of the job, which then must not have succeeded)",
    )


class JobsPage(BaseModel):
    limit: Annotated[int, PageSize(100)] = Field(default=25, ge=1, description="Maximum number of jobs on the page")
    cursor: str | None = Field(default=None, description="Position after the previous page, from its `next`")
    status: Status | None = Field(default=None)
    task: Annotated[str, Field(max_length=200), AfterValidator(has_no_nul)] | None = Field(default=None)
    created_after: Moment | None = Field(default=None, description="A time with time zone")
    created_before: Moment | None = Field(default=None, description="A time with time zone")
    retry_of: Annotated[str, Field(max_length=36), AfterValidator(has_no_nul)] | None = Field(
        default=None, description="Id of a job: list the jobs that it was retried as"
    )

    @property
    def filters(self) -> dict[str, str | None]:
        """The filters as `Reading.page` and the cursor take them; `retry_of` only if it is given."""
        after, before = self.created_after, self.created_before
        filters = {
            "status": self.status,
            "task": self.task,
            "created_after": timestamp(after) if after else None,
            "created_before": timestamp(before) if before else None,
        }
        return filters if self.retry_of is None else filters | {"retry_of": self.retry_of}
