"""The contract as a document: OpenAPI for programs."""

from typing import Any

from quart import Blueprint, Response

from ...access.caller import Scope
from ..contract.needs import needs
from ..contract.openapi import openapi_document
from ..contract.operations import Answer, operation

blueprint = Blueprint("contract", __name__)


@blueprint.get("/openapi.json")
@needs(Scope.READ)
@operation(
    "Documents",
    "The OpenAPI document",
    answers={200: Answer("OpenAPI 3.1", dict[str, Any], example={"openapi": "3.1.0", "paths": {}})},
)
async def openapi() -> Response:
    """`quart-async-api openapi` prints the same document."""
    return Response(openapi_document(), content_type="application/json")
