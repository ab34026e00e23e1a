"""Cases of one test on the same app: to start and stop one takes longer than most requests do."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

Test = Callable[..., Awaitable[None]]


def each(names: str | Sequence[str], cases: Iterable[Any]) -> Callable[[Test], Test]:
    """Run the test for each case, as `pytest.mark.parametrize` does, but with the same fixtures for all of them.

    For cases that leave nothing behind that another one could see. Each is reported by itself; one that fails stops no other.
    """
    columns = [names] if isinstance(names, str) else list(names)
    rows = [dict(zip(columns, [case] if isinstance(names, str) else case, strict=True)) for case in cases]

    def decorate(test: Test) -> Test:
        parameters = signature(test).parameters

        @wraps(test)
        async def run(**fixtures: Any) -> None:
            subtests: pytest.Subtests = fixtures["subtests"]
            wanted = {name: value for name, value in fixtures.items() if name in parameters}
            for row in rows:
                with subtests.test(**row):
                    await test(**wanted, **row)

        asked = dict.fromkeys([*(name for name in parameters if name not in columns), "subtests"])
        run.__signature__ = Signature([Parameter(name, Parameter.KEYWORD_ONLY) for name in asked])  # type: ignore[attr-defined]
        return run

    return decorate
