"""The routes. One of a task answers at once, later, as a stream or by a callback, as its caller asks."""

from quart import Blueprint
from quart_async_api import delivers

from .models import Greeting
from .tasks import greet

blueprint = Blueprint("starter", __name__)


@blueprint.post("/greetings")
@delivers(greet, tag="Greetings")
async def make_greeting(result: str) -> None:
    """Greets somebody."""


@blueprint.get("/greetings")
async def greetings() -> list[dict[str, str]]:
    found = await Greeting.all().order_by("-id").limit(100)
    return [{"name": greeting.name, "text": greeting.text} for greeting in found]
