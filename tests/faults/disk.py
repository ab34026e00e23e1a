"""What a disk holds after a power cut: computed from the record of all that was written to it, and of each flush.

The record is made by disk_log.c. What was flushed is kept. Of the rest, each sector is at random as it was before, as it was
after any of the writes to it, or torn: its beginning from one of those moments and its end from another. The size of a file,
and the names in the folder, are those of any moment since the last flush as well. Sectors are 512 bytes or 4 KiB.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("disk_log.c")
_HEAD = struct.Struct("=IIQQ")


def library(folder: Path) -> Path:
    """Build the preload library into `folder`. Skips the test where it cannot be: without Linux or a C compiler."""
    if sys.platform != "linux":
        pytest.skip("power cuts are simulated with LD_PRELOAD, which needs Linux")
    if (compiler := shutil.which(os.environ.get("CC", "cc"))) is None:
        pytest.skip("power cuts are simulated with a library in C, and there is no C compiler `cc`")
    built = folder / "disk_log.so"
    command = (
        compiler,
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        built,
        SOURCE,
        "-ldl",
        "-pthread",
    )
    subprocess.run(command, check=True)
    return built


def preloaded(built: Path, database: Path, log: Path) -> dict[str, str]:
    """The environment of a process whose changes of `database` and its companion files are to be recorded in `log`."""
    return {"LD_PRELOAD": str(built), "DISK_FILES": str(database), "DISK_LOG": str(log)}


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind` is `w`rite, `t`runcate to `offset`, flu`s`h, `u`nlink or `r`ename to `data`; `end`: its place in the record."""

    kind: str
    path: str
    offset: int
    data: bytes
    end: int


def operations(log: Path) -> Iterator[Operation]:
    """All that was recorded whole, in order."""
    with log.open("rb") as file:
        place = 0
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            kind, path_length, offset, length = _HEAD.unpack(head)
            path, data = file.read(path_length), file.read(length)
            if len(data) < length:
                return
            place += _HEAD.size + path_length + length
            yield Operation(chr(kind), path.decode(), offset, data, place)


@dataclass(slots=True, eq=False)
class _File:
    flushed: bytearray = field(default_factory=bytearray)
    pending: list[Operation] = field(default_factory=list)

    def apply(self) -> None:
        for operation in self.pending:
            _change(self.flushed, operation)
        self.pending.clear()

    def after_cut(self, chance: random.Random, sector: int) -> bytes:
        """The content of any moment since the last flush, sector by sector."""
        now = bytearray(self.flushed)
        sizes = [len(now)]
        versions: dict[int, list[bytes]] = {}
        for operation in self.pending:
            touched = _sectors(operation, len(now), sector)
            before = {number: bytes(now[number * sector : (number + 1) * sector]) for number in touched}
            _change(now, operation)
            sizes.append(len(now))
            for number in touched:
                after = bytes(now[number * sector : (number + 1) * sector])
                versions.setdefault(number, [before[number]]).append(after)
        image = bytearray(max(sizes))
        image[: len(now)] = now
        for number, seen in versions.items():
            first, second = chance.choice(seen), chance.choice(seen)
            cut = chance.choice((0, chance.randrange(sector + 1)))  # torn, every other time
            chosen = first.ljust(sector, b"\0")[:cut] + second.ljust(sector, b"\0")[cut:]
            image[number * sector : (number + 1) * sector] = chosen
        del image[chance.choice(sizes) :]
        return bytes(image)


def _change(content: bytearray, operation: Operation) -> None:
    end = operation.offset + len(operation.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if operation.kind == "t":
        del content[operation.offset :]
    else:
        content[operation.offset : end] = operation.data


def _sectors(operation: Operation, size: int, sector: int) -> range:
    end = max(size, operation.offset) if operation.kind == "t" else operation.offset + len(operation.data)
    return range(operation.offset // sector, -(-end // sector))


class Disk:
    """The files of one folder whose paths begin with `database`, replayed one operation after another."""

    def __init__(self, database: Path) -> None:
        """Start from what is there now, all of it flushed."""
        self._folder = str(database.parent)
        found = database.parent.glob(f"{database.name}*")
        self._files = {str(file): _File(bytearray(file.read_bytes())) for file in found if file.is_file()}
        self._names = dict(self._files)  # as the folder was when it was flushed
        self._renames: list[tuple[str, _File | None]] = []  # what became of the names since; None: gone

    def replay(self, operation: Operation) -> None:
        path = operation.path
        if operation.kind == "s":
            if path == self._folder:
                self._names, self._renames = self._folder_after(len(self._renames)), []
            elif path in self._files:
                self._files[path].apply()
        elif operation.kind == "u":
            self._name(path, None)
        elif operation.kind == "r":
            file = self._files.get(path) or _File()  # one that nothing was written to is in no record before
            self._name(path, None)
            self._name(operation.data.decode(), file)
        else:
            if path not in self._files:
                self._name(path, _File())
            self._files[path].pending.append(operation)

    def _name(self, path: str, file: _File | None) -> None:
        self._renames.append((path, file))
        if file is None:
            self._files.pop(path, None)
        else:
            self._files[path] = file

    def _folder_after(self, count: int) -> dict[str, _File]:
        names = dict(self._names)
        for path, file in self._renames[:count]:
            if file is None:
                names.pop(path, None)
            else:
                names[path] = file
        return names

    def cut_power(self, folder: Path, chance: random.Random) -> None:
        """Write what is left into `folder`. Files of shared memory are garbage, as nothing is ever flushed of them."""
        sector = chance.choice((512, 4096))
        names = self._folder_after(chance.randrange(len(self._renames) + 1))
        for path, file in names.items():
            if not path.endswith("-shm"):
                (folder / Path(path).name).write_bytes(file.after_cut(chance, sector))
            elif chance.random() < 0.5:
                (folder / Path(path).name).write_bytes(chance.randbytes(32768))


def images(
    disk: Disk, recorded: Iterable[Operation], places: Sequence[int], folder: Path, chance: random.Random
) -> Iterator[tuple[int, Path]]:
    """For each of `places` in the record, what a power cut there leaves, in a folder of its own; in the places' order."""
    left = sorted(places, reverse=True)
    made = 0

    def made_until(end: float) -> Iterator[tuple[int, Path]]:
        nonlocal made
        while left and left[-1] < end:
            image = folder / f"image-{made}"
            image.mkdir()
            made += 1
            disk.cut_power(image, chance)
            yield left.pop(), image

    for operation in recorded:
        yield from made_until(operation.end)
        disk.replay(operation)
    yield from made_until(float("inf"))
