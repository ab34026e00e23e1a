"""What is wrong with input is reported within bounds, whatever the model is made of."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from quart_async_api.errors import MOST_ERRORS, InvalidInput
from quart_async_api.validation import checked


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


@dataclass
class Point:
    y: int


class Typed(TypedDict):
    z: int


class Tree(BaseModel):
    v: int = 0
    left: "Tree | None" = None
    right: "Tree | None" = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]


class Everything(BaseModel):
    """What an author of tasks may write."""

    model_config = ConfigDict(extra="forbid")
    numbers: list[int] = []
    leaves: list[Leaf] = []
    by_name: dict[str, int] = {}
    by_names: dict[str, dict[str, int]] = {}
    tree: Tree | None = None
    trees: dict[str, Tree] = {}
    any_of: list[Leaf] | dict[str, Leaf] | int = 0
    points: set[int] = set()
    pair: tuple[int, ...] = ()
    point: Point | None = None
    typed: Typed | None = None
    typed_list: list[Typed] = []
    opened: Open | None = None
    ratio: float = 0


def tree(levels: int) -> dict[str, Any]:
    deeper = {} if levels == 0 else {"left": tree(levels - 1), "right": tree(levels - 1)}
    return {"v": "x", **deeper}


MANY = 5_000
LONG = "k" * 50_000
WRONG: dict[str, Callable[[], dict[str, Any]]] = {
    "items": lambda: {"numbers": ["x"] * MANY},
    "items of a set": lambda: {"points": ["x"] * MANY},
    "items of a tuple": lambda: {"pair": ["x"] * MANY},
    "models": lambda: {"leaves": [{"x": "x", "y": 1}] * MANY},
    "typed dictionaries": lambda: {"typed_list": [{"z": "x"}] * MANY},
    "values": lambda: {"by_name": {str(number): "x" for number in range(MANY)}},
    "values of values": lambda: {"by_names": {str(a): {str(b): "x" for b in range(90)} for a in range(MANY // 90)}},
    "members": lambda: {str(number): 0 for number in range(MANY)},
    "typed members": lambda: {"opened": {str(number): "x" for number in range(MANY)}},
    "choices": lambda: {"any_of": {str(number): {"x": "x"} for number in range(MANY)}},
    "nodes": lambda: {"tree": tree(9)},
    "values below a long name": lambda: {"by_names": {LONG: {str(number): "x" for number in range(MANY)}}},
    "nodes below a long name": lambda: {"trees": {LONG: tree(9)}},
    "a long name": lambda: {LONG: 1},
}


def refused(sent: object) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        checked(Everything, sent)
    return caught.value


@pytest.mark.parametrize("wrong", WRONG)
def test_a_request_with_many_faults_made_an_answer_larger_than_itself(wrong: str) -> None:
    error = refused(WRONG[wrong]())
    assert 1 <= len(error.errors) <= MOST_ERRORS
    assert len(to_json([(one.pointer, one.detail) for one in error.errors])) + len(str(error)) < 100_000


@pytest.mark.parametrize("wrong", [name for name in WRONG if not name.startswith("nodes")])
def test_many_faults_held_up_the_loop(wrong: str) -> None:
    """Against the time that any JSON of this length costs: the parsing of it. Trees cost what valid ones do."""
    body = to_json(WRONG[wrong]())
    sent = from_json(body)

    def cost(work: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            work()
            best = min(best, time.process_time() - started)
        return best

    dense = b"[" + b'{"a":1},' * (len(body) // 8) + b"1]"
    assert cost(lambda: refused(sent)) < 20 * cost(lambda: from_json(dense))


@pytest.mark.parametrize(
    ("sent", "pointers"),
    [
        ({"numbers": ["x", 1]}, ["#/numbers/0"]),
        ({"numbers": [1, "x", "y"]}, ["#/numbers/1"]),  # the first
        ({"leaves": [{"x": 1, "y": 1, "z": 2}]}, ["#/leaves/0/y", "#/leaves/0/z"]),
        ({"by_name": {"a/b": "x", "c": "y"}}, ["#/by_name/a~1b", "#/by_name/c"]),
        ({"tree": {"v": "x", "left": {"v": "x"}}}, ["#/tree/v", "#/tree/left/v"]),
        ({"point": {"y": "x"}, "typed": {"z": "x"}, "nonsense": 1}, ["#/point/y", "#/typed/z", "#/nonsense"]),
        ({"any_of": {"a": {"x": "x"}}}, ["#/any_of/list", "#/any_of/dict/a/x", "#/any_of/int"]),
        ({"ratio": "inf"}, ["#/ratio"]),
        ({"ratio": float("inf")}, ["#/ratio"]),
    ],
)
def test_few_faults_are_told_one_by_one(sent: dict[str, Any], pointers: list[str]) -> None:
    assert [error.pointer for error in refused(sent).errors] == pointers


def test_the_bounds_change_nothing_of_what_fits() -> None:
    sent = {
        "numbers": ["1", 2],
        "leaves": [{"x": 1}],
        "by_name": {str(number): number for number in range(1000)},
        "tree": {"v": 1, "left": {"v": 2}},
        "any_of": [{"x": 3}],
        "points": [1, 1, 2],
        "pair": [1, 2],
        "point": {"y": 1},
        "typed": {"z": 1},
        "opened": {"a": 1},
        "ratio": 0.5,
    }
    assert checked(Everything, sent) == Everything.model_validate(sent)
    assert checked(Everything, sent).model_fields_set == set(sent)


def test_a_choice_whose_first_part_has_many_faults_fits_by_its_second() -> None:
    class Either(BaseModel):
        values: dict[str, int] | dict[str, str]

    sent = {str(number): "x" for number in range(1000)}
    assert checked(Either, {"values": sent}).values == sent
    with pytest.raises(ValidationError):
        TypeAdapter(dict[str, int]).validate_python(sent)


# What pydantic's own schemas call their parts.
TAKEN = [
    "type",
    "schema",
    "fields",
    "choices",
    "metadata",
    "serialization",
    "default",
    "expected",
    "config",
    "ref",
    "loc",
]


@pytest.mark.filterwarnings("ignore:Field name")  # pydantic warns of `schema`, and takes it
@pytest.mark.parametrize("name", TAKEN)
def test_an_argument_named_as_a_part_of_a_schema_could_not_be_sent_or_had_no_bound(name: str) -> None:
    fields: dict[str, Any] = {name: (list[int], ...)}
    row = TypedDict("row", {name: list[int]})  # type: ignore[misc]
    rows: dict[str, Any] = {"row": (row, ...)}
    assert getattr(checked(create_model("Arguments", **fields), {name: [1]}), name) == [1]
    for model, sent in (
        (create_model("Arguments", **fields), {name: ["x"] * 5}),
        (create_model("Arguments", **rows), {"row": {name: ["x"] * 5}}),
    ):
        with pytest.raises(InvalidInput) as caught:
            checked(model, sent)
        assert len(caught.value.errors) == 1  # the first, as of any list


class Plain(BaseModel):
    kind: Literal["type"]
    numbers: list[int]


class Other(BaseModel):
    kind: Literal["config"]


class Chosen(BaseModel):
    one: Annotated[Plain | Other, Field(discriminator="kind")]


def test_a_choice_labelled_as_a_part_of_a_schema_could_not_be_sent() -> None:
    assert checked(Chosen, {"one": {"kind": "type", "numbers": [1]}}).one == Plain(kind="type", numbers=[1])
    with pytest.raises(InvalidInput) as caught:
        checked(Chosen, {"one": {"kind": "type", "numbers": ["x"] * 5}})
    assert len(caught.value.errors) == 1
