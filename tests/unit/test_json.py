"""msgspec and pydantic write the same bytes for records, so that nobody can tell which of them wrote an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from pydantic_core import PydanticSerializationError, to_json

from quart_async_api.http.json import encode_records
from quart_async_api.services.users import UserRecord

POINTS = (*range(0x300), 0x2028, 0x2029, 0xD7FF, 0xE000, 0xFEFF, 0xFFFE, 0xFFFF, 0x1F600, 0x10FFFF)
HOSTILE = (*(f"a{chr(point)}b" for point in POINTS), "</script>", '"\\"', "2026-01-01T00:00:00.000000Z", "")


def as_document(user: UserRecord) -> dict[str, object]:
    return {"id": user.id, "name": user.name, "email": user.email}


def assert_same(*users: UserRecord) -> None:
    assert encode_records(users) == to_json([as_document(user) for user in users])
    for user in users:
        assert encode_records(user) == to_json(as_document(user))


def test_hostile_texts_and_numbers_are_written_alike() -> None:
    assert_same(*(UserRecord(number, text, text) for number, text in enumerate(HOSTILE)))
    assert_same(*(UserRecord(sign * 2**power, "", "") for power in (0, 31, 53, 62, 63, 64) for sign in (1, -1)))
    assert_same()


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63), st.text(), st.text())))
def test_any_texts_and_numbers_are_written_alike(rows: list[tuple[int, str, str]]) -> None:
    assert_same(*(UserRecord(*row) for row in rows))


def test_half_a_surrogate_pair_which_no_database_stores_is_refused_by_both() -> None:
    with pytest.raises(PydanticSerializationError):
        to_json("\ud800")
    with pytest.raises(UnicodeEncodeError):
        encode_records(UserRecord(1, "\ud800", ""))


def test_records_have_no_members_that_are_written_differently() -> None:
    records = Struct.__subclasses__()
    ours = [record for record in records if record.__module__.startswith("quart_async_api")]
    assert UserRecord in ours
    for record in ours:
        assert set(record.__annotations__.values()) <= {int, str, bool, int | None, str | None}, record
