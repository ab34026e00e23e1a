"""JSON as the service writes and reads it: pydantic's encoder, strict about what JSON is (RFC 8259)."""

from typing import Any

from pydantic_core import from_json, to_json
from quart.json.provider import JSONProvider


class PydanticJson(JSONProvider):
    """Encodes dataclasses, datetimes and models too. Refuses NaN, which is not JSON."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return to_json(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return from_json(s, allow_inf_nan=False)
