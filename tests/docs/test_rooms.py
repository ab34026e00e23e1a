"""The picture of the rooms shows each of them once, and arrows that point down."""

from itertools import combinations
from xml.etree.ElementTree import fromstring

from docs.drawing import picture
from docs.rooms import LEAVES, ROOT, Graph, direct, floors, graph, inside_http, table

SVG = "{http://www.w3.org/2000/svg}"


def shown(kind: str) -> list[tuple[float, float, float, float]]:
    """The boxes of a kind: left, top, right, bottom."""
    boxes = [box.attrib for box in fromstring(picture()).iter(f"{SVG}rect") if box.get("class") == kind]  # noqa: S314 - ours
    return [
        (x := float(box["x"]), y := float(box["y"]), x + float(box["width"]), y + float(box["height"])) for box in boxes
    ]


def closure(arrows: Graph) -> set[tuple[str, str]]:
    found = {(above, below) for above, each in arrows.items() for below in each}
    while more := {(a, d) for a, b in found for c, d in found if b == c} - found:
        found |= more
    return found


def test_every_module_at_the_top_is_a_room_or_a_leaf() -> None:
    tops = {file.stem for file in ROOT.iterdir() if file.suffix == ".py" or (file / "__init__.py").is_file()}
    assert tops == {*graph(), *LEAVES, "__init__", "migrations"}
    rows = {line.split("|")[1].strip(" `/") for line in table().splitlines()}
    assert {name if (ROOT / name).is_dir() else f"{name}.py" for name in (*graph(), *inside_http(), *LEAVES)} <= rows


def test_every_arrow_points_down() -> None:
    for arrows in (graph(), inside_http()):
        floor = {name: number for number, names in enumerate(floors(arrows)) for name in names}
        assert floor.keys() == arrows.keys()
        assert all(floor[above] < floor[below] for above, found in arrows.items() for below in found)


def test_an_arrow_that_is_left_out_follows_from_others() -> None:
    arrows = {"a": frozenset("bcd"), "b": frozenset("c"), "c": frozenset("d"), "d": frozenset[str]()}
    assert direct(arrows) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": frozenset()}
    assert closure(direct(graph())) == closure(graph())


def test_no_room_of_the_picture_hides_another() -> None:
    boxes = [*shown("b"), *shown("l")]
    assert len(boxes) == len(graph()) + 1
    assert len(shown("i")) == len(inside_http())
    for one, other in combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1], (one, other)
