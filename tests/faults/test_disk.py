"""The image maker: flushed bytes stay, of others each sector is old, new or torn, and names go the same way."""

import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.faults import disk
from tests.faults.disk import Disk, Operation

SECTOR = 512
OLD, NEW = b"o" * SECTOR, b"n" * SECTOR
Cut = Callable[..., list[dict[str, bytes]]]


@pytest.fixture
def cut(tmp_path: Path) -> Cut:
    """What 200 power cuts after these operations leave of a file that was OLD OLD, with the operations written as lines."""

    def cut(*steps: tuple[str, str, int, bytes]) -> list[dict[str, bytes]]:
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        (folder / "app.db").write_bytes(OLD * 2)
        found = []
        for number in range(200):
            replayed = Disk(folder / "app.db")
            for kind, name, offset, data in steps:
                replayed.replay(Operation(kind, str(folder / name) if name else str(folder), offset, data, 0))
            image = Path(tempfile.mkdtemp(dir=tmp_path))
            replayed.cut_power(image, random.Random(number))  # noqa: S311
            found.append({file.name: file.read_bytes() for file in image.iterdir()})
        return found

    return cut


def contents(found: Iterable[dict[str, bytes]], name: str = "app.db") -> set[bytes | None]:
    return {one.get(name) for one in found}


def test_what_was_flushed_is_there_after_every_cut(cut: Cut) -> None:
    assert contents(cut(("w", "app.db", 0, NEW), ("s", "app.db", 0, b""))) == {NEW + OLD}


def test_what_was_not_flushed_is_old_new_or_torn(cut: Cut) -> None:
    seen = contents(cut(("w", "app.db", 0, NEW)))
    assert {OLD * 2, NEW + OLD} < seen
    torn = {content[:SECTOR] for content in seen if content} - {OLD, NEW}
    assert torn
    assert all(sector in (OLD[:at] + NEW[at:], NEW[:at] + OLD[at:]) for sector in torn for at in [flip(sector)])
    assert {content[SECTOR:] for content in seen if content} == {OLD}, "bytes that nobody wrote changed"


def flip(sector: bytes) -> int:
    return next(at for at in range(1, SECTOR) if sector[at] != sector[at - 1])


def test_a_later_write_may_be_kept_where_an_earlier_one_is_lost(cut: Cut) -> None:
    assert OLD + NEW in contents(cut(("w", "app.db", 0, NEW), ("w", "app.db", SECTOR, NEW)))


def test_a_file_grows_or_shrinks_only_when_it_is_flushed(cut: Cut) -> None:
    grown = contents(cut(("w", "app.db", 2 * SECTOR, NEW)))
    assert {OLD * 2, OLD * 2 + NEW} < grown
    assert {len(content or b"") for content in grown} == {2 * SECTOR, 3 * SECTOR}
    shrunk = cut(("t", "app.db", SECTOR, b""))
    assert {len(content or b"") for content in contents(shrunk)} == {SECTOR, 2 * SECTOR}
    assert contents(cut(("t", "app.db", SECTOR, b""), ("s", "app.db", 0, b""))) == {OLD}


def test_a_name_is_made_and_removed_for_good_only_when_the_folder_is_flushed(cut: Cut) -> None:
    made = (("w", "app.db-wal", 0, NEW), ("s", "app.db-wal", 0, b""))
    assert contents(cut(*made), "app.db-wal") == {None, NEW}
    assert contents(cut(*made, ("s", "", 0, b"")), "app.db-wal") == {NEW}
    assert contents(cut(("u", "app.db", 0, b""))) == {None, OLD * 2}
    assert contents(cut(("u", "app.db", 0, b""), ("s", "", 0, b""))) == {None}


@pytest.mark.process
def test_what_a_process_does_to_its_files_is_recorded_in_order_and_nothing_else_is(tmp_path: Path) -> None:
    built, log = disk.library(tmp_path), tmp_path / "log"
    script = """if True:
        import os
        file = os.open("app.db", os.O_RDWR | os.O_CREAT)
        os.write(file, b"first"); os.pwrite(file, b"second", 10); os.ftruncate(file, 12)
        os.fsync(file); os.fdatasync(file); os.fsync(os.open(".", os.O_RDONLY))
        other = os.open("other", os.O_RDWR | os.O_CREAT); os.write(other, b"no"); os.fsync(other)
        os.rename(os.path.abspath("app.db"), os.path.abspath("app.db-2")); os.unlink(os.path.abspath("app.db-2"))
    """
    subprocess.run(
        (sys.executable, "-c", script), cwd=tmp_path, env=disk.preloaded(built, tmp_path / "app.db", log), check=True
    )
    file, renamed = str(tmp_path / "app.db"), str(tmp_path / "app.db-2")
    recorded = list(disk.operations(log))
    assert [(one.kind, one.path, one.offset, one.data) for one in recorded] == [
        ("w", file, 0, b"first"),
        ("w", file, 10, b"second"),
        ("t", file, 12, b""),
        ("s", file, 0, b""),
        ("s", file, 0, b""),
        ("s", str(tmp_path), 0, b""),
        ("r", file, 0, renamed.encode()),
        ("u", renamed, 0, b""),
    ]
    assert recorded[-1].end == log.stat().st_size


def test_a_record_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    whole = struct.pack("=IIQQ", ord("w"), 1, 0, 3) + b"f" + b"abc"
    log.write_bytes(whole + whole[:-1])
    assert [one.end for one in disk.operations(log)] == [len(whole)]
