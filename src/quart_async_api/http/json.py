"""JSON as the service writes and reads it: pydantic's encoder, strict about what JSON is (RFC 8259).

Records of texts and whole numbers alone are written by msgspec, in a tenth of the time. Its bytes for them are the same:
tests/unit/test_json.py compares them, and refuses records with other members, whose bytes may differ (a float such as 1e16).
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, cast

from msgspec import Struct
from msgspec.json import Encoder
from pydantic_core import from_json, to_json
from quart import Response
from quart.json.provider import JSONProvider
from werkzeug.datastructures import Headers

_STATUS = {status.value: f"{status.value} {status.phrase.upper()}" for status in HTTPStatus}
JSON = "application/json"
_RECORDS = Encoder()


class JsonResponse(Response):
    """A response of bytes whose header fields are known. Quart's own looks most of them up several times."""

    def __init__(
        self, content: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = (), *, media_type: str = JSON
    ) -> None:
        self.headers = Headers()
        self.headers._list = [("Content-Type", media_type), ("Content-Length", str(len(content))), *headers]
        self._status, self._status_code = _STATUS[status], status
        self.response = self.data_body_class(content)
        self.timeout = ...


def encode_records(records: Struct | Sequence[Struct]) -> bytes:
    """Return the JSON of a record of texts and whole numbers, or of a list of such records."""
    return _RECORDS.encode(records)


class PydanticJson(JSONProvider):
    """Encodes dataclasses, datetimes and models too. Refuses NaN, which is not JSON."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return to_json(obj).decode()

    def response(self, *args: Any, **kwargs: Any) -> Response:
        if self._app.response_class is Response:
            return JsonResponse(to_json(self._prepare_response_obj(args, kwargs)))
        return cast("Response", super().response(*args, **kwargs))

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return from_json(s, allow_inf_nan=False)
