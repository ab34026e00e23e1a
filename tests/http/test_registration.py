"""Routes of an app of one's own that could not work, and those on paths that are taken."""

import logging
from typing import Any

import pytest
from pydantic import BaseModel
from quart import Blueprint, Response, jsonify
from quart.utils import run_sync

from quart_async_api import Answer, Settings, TaskContext, create_app, operation, task
from quart_async_api.errors import RouteTaken
from quart_async_api.http.delivery.delivers import delivers


@task("count")
async def count(ctx: TaskContext, *, start: int = 1) -> int:
    """Count."""
    return start


@delivers(count)
async def delivered(result: int) -> Response:
    return jsonify(result)


async def plain(**parameters: Any) -> str:
    return "plain"


@pytest.mark.parametrize(
    ("rule", "options", "reason"),
    [
        ("/count/<int:by>", {}, r"/count/<int:by> of task 'count': the task has no argument 'by'; it has start"),
        ("/count/<start>/<any(a, b):letter>", {}, "has no argument 'letter'"),
        ("/count", {"defaults": {"start": 3}}, "its default in the task"),
        ("/count", {"methods": ["GET", "trace"]}, "it cannot support TRACE, only DELETE, GET, PATCH, POST, PUT"),
    ],
)
def test_a_delivered_route_that_could_not_give_its_task_the_arguments_is_refused(
    settings: Settings, rule: str, options: dict[str, Any], reason: str
) -> None:
    app = create_app(settings, tasks=[count])
    with pytest.raises(ValueError, match=reason):
        app.add_url_rule(rule, "count", delivered, **options)
    blueprint = Blueprint("counts", __name__)
    blueprint.add_url_rule(rule, "count", delivered, **options)
    with pytest.raises(ValueError, match=reason):
        app.register_blueprint(blueprint)


def test_a_delivered_route_with_a_parameter_in_its_prefix_is_refused(settings: Settings) -> None:
    blueprint = Blueprint("counts", __name__, url_prefix="/of/<tenant>")
    blueprint.add_url_rule("/count", "count", delivered)
    with pytest.raises(ValueError, match="/of/<tenant>/count"):
        create_app(settings, tasks=[count]).register_blueprint(blueprint)


def test_a_delivered_route_of_a_task_that_the_app_lacks_took_jobs_that_nobody_ran(settings: Settings) -> None:
    app = create_app(settings)
    with pytest.raises(
        ValueError, match=r"/count of task 'count': the app has no such task: .*create_app\(tasks=\[…\]\)"
    ):
        app.add_url_rule("/count", "count", delivered)


class Shelf(BaseModel):
    number: int
    row: int = 1


@pytest.mark.parametrize(
    ("rule", "there"),
    [("/shelves/<number>", "'number'"), ("/shelves", "no parameter"), ("/<number>/<row>/<side>", ".*")],
)
def test_a_path_with_other_parameters_than_its_model_answered_422_or_500(
    settings: Settings, rule: str, there: str
) -> None:
    view = operation("Shelves", "Show a shelf", path=Shelf, answers={200: Answer("The shelf", Shelf)})(plain)
    app = create_app(settings)
    with pytest.raises(ValueError, match=rf"route {rule}: its path has {there}, but path=Shelf has 'number', 'row'"):
        app.add_url_rule(rule, "shelf", view)
    app.add_url_rule("/shelves/<number>", "shelf", view, defaults={"row": 2})


def test_a_delivered_websocket_is_refused(settings: Settings) -> None:
    with pytest.raises(ValueError, match="no WebSocket"):
        create_app(settings, tasks=[count]).add_websocket("/count", "count", delivered)


def test_a_function_that_does_not_take_the_result_alone_was_a_500() -> None:
    async def with_more(result: int, start: int) -> Response:
        return jsonify(result)

    async def with_nothing() -> Response:
        return jsonify(0)

    def in_a_thread(result: int) -> Response:
        return Response(str(result))

    wrong: list[Any] = [with_more, with_nothing, in_a_thread]
    for function in wrong:
        with pytest.raises(TypeError, match=rf"task 'count': write it as async def {function.__name__}\(result\)"):
            delivers(count)(function)


@pytest.mark.parametrize(
    ("rule", "methods", "of_the_service"),
    [
        ("/get", ["GET"], "tutorial.get"),
        ("/jobs", ["PUT", "POST"], "jobs.submit"),
        ("/user/<int:number>", ["DELETE"], "users.user"),
        ("/problems/<name>", ["GET"], "docs.problem_page"),
    ],
)
async def test_a_route_on_a_path_that_is_taken_was_never_called(
    settings: Settings, caplog: pytest.LogCaptureFixture, rule: str, methods: list[str], of_the_service: str
) -> None:
    app = create_app(settings)
    blueprint = Blueprint("mine", __name__)
    blueprint.add_url_rule(rule, "route", plain, methods=methods)
    app.register_blueprint(blueprint)
    with caplog.at_level(logging.CRITICAL), pytest.raises(RouteTaken) as refused:
        await app.startup()
    assert rule in str(refused.value)
    assert f"'mine.route' is taken by '{of_the_service}'" in str(refused.value)
    assert app.service.database.starts == 0


async def test_two_websockets_on_one_path_are_refused(settings: Settings) -> None:
    app = create_app(settings)
    app.add_websocket("/jobs/<number>/ws", "mine", run_sync(lambda number: None))
    with pytest.raises(RouteTaken, match=r"WebSocket /jobs/<number>/ws of 'mine' is taken by 'sockets\.watch'"):
        await app.startup()


async def test_another_method_or_a_longer_path_is_no_conflict(settings: Settings) -> None:
    app = create_app(settings, tasks=[count])
    app.add_url_rule("/users", "clear", plain, methods=["DELETE"])
    app.add_url_rule("/user/me", "me", plain)
    app.add_url_rule("/jobs/<job_id>/notes", "notes", plain)
    app.add_url_rule("/count", "count", delivered)
    app.add_url_rule("/jobs/<job_id>/ws", "explain", plain)  # beside the WebSocket
    async with app.test_app():
        client = app.test_client()
        for method, path in (
            ("DELETE", "/users"),
            ("GET", "/user/me"),
            ("GET", "/jobs/1/notes"),
            ("GET", "/jobs/1/ws"),
        ):
            response = await getattr(client, method.lower())(path)
            assert await response.get_data(as_text=True) == "plain"
