"""The tasks: what is slow, or has to survive a crash."""

from typing import Annotated

from pydantic import Field
from quart_async_api import TaskContext, task

from .models import Greeting


@task("greet", retries=2)
async def greet(
    ctx: TaskContext, *, name: Annotated[str, Field(min_length=1, max_length=100)]
) -> str:
    """Greet somebody, and keep the greeting."""
    # After a crash a task runs again: it then finds the row of its first run.
    greeting, _ = await Greeting.get_or_create(name=name, defaults={"text": f"Hello, {name}!"})
    return greeting.text
