"""Errors of the console's pages, as pages: the same problem and status as a program gets, in words."""

from http import HTTPStatus
from typing import Any

from pydantic_core import from_json
from quart import Response, has_request_context, render_template, request
from werkzeug.exceptions import HTTPException

from ..http.problems import answer
from ..problem_types import CONTENT_TYPE


async def error_page(error: Exception) -> Any:
    """Return the page of an error, or its problem document for a caller that does not prefer HTML."""
    response = await answer(error)
    wants_page = (
        has_request_context() and request.accept_mimetypes.best_match((CONTENT_TYPE, "text/html")) == "text/html"
    )
    if not isinstance(response, Response) or response.mimetype != CONTENT_TYPE or not wants_page:
        return response
    problem = from_json(await response.get_data())
    response.set_data(
        await render_template(
            "error.html",
            problem=problem,
            phrase=HTTPStatus(response.status_code).phrase,
            retry_after=response.headers.get("Retry-After"),
        )
    )
    response.content_type = "text/html; charset=utf-8"
    return response


async def address_error(error: HTTPException) -> Any:
    """Return the page of an error in an address of the console that no route has; elsewhere, the problem."""
    is_page = has_request_context() and request.path.startswith("/console/")
    return await (error_page(error) if is_page else answer(error))
