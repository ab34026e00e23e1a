"""Part `flames`: where the time of each hot route goes, as a flame graph: py-spy looks at the server under load."""

import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import http
from .figures import RESULTS, Part
from .load import measured
from .machine import LOAD_CORE, ROOT, Guard, on_core
from .rounds import NoFigure
from .servers import CannotStart, Running, make_databases, started

_SECONDS, _RATE = 3, 200
_WIDTH, _ROW = 1200, 17
_LEAST = 0.003  # of all samples: narrower frames are left out


@dataclass(slots=True)
class Frame:
    """A function with what it called; `samples` counts both."""

    samples: int = 0
    called: dict[str, "Frame"] = field(default_factory=dict)


def measure(seconds: float = _SECONDS, say: Callable[[str], None] = print) -> Part:
    part = Part(
        "flames",
        "Flame graphs",
        f"{http.OURS} under load, {_RATE} samples a second for {seconds:g} s by py-spy, of the thread that holds the "
        f"interpreter's lock. Each function stands below its caller, as wide as its share of the samples; ours are green. "
        f"Frames with less than {_LEAST:.1%} are left out.",
    )
    server = http.SERVERS[0]
    with tempfile.TemporaryDirectory(prefix="qaa-bench-") as name:
        make_databases(Path(name))
        with started(server, Path(name)) as there:
            for row in http.ROWS:
                try:
                    stacks = _samples(there, row, seconds, Path(name) / "stacks.txt")
                except NoFigure as error:
                    part.missing[row] = str(error)
                else:
                    file = f"flame-{''.join(letter if letter.isalnum() else '-' for letter in row.lower())}.svg"
                    RESULTS.mkdir(parents=True, exist_ok=True)
                    (RESULTS / file).write_text(picture(row, read_stacks(stacks)))
                    part.pictures[row] = file
                say(f"{row}: {part.missing.get(row, 'drawn')}")
    return part.finish(Guard(0))


def _samples(server: Running, row: str, seconds: float, output: Path) -> str:
    """Collapsed stacks, one a line with its number of samples. Raises NoFigure."""
    program = ROOT / "build" / "bench-env-http" / "bin" / "py-spy"
    if not program.is_file():
        raise CannotStart("py-spy is not installed: `make bench` installs it")
    load = threading.Thread(
        target=measured, args=(server, http.request(http.SERVERS[0], row), seconds + 2), daemon=True
    )
    load.start()
    command = [str(program), "record", "--pid", str(server.process.pid), "--format", "raw", "--output", str(output)]
    with on_core(LOAD_CORE):
        done = subprocess.run([*command, "--duration", str(round(seconds)), "--rate", str(_RATE), "--gil"],
                              capture_output=True, text=True, check=False)  # fmt: skip
    load.join()
    if done.returncode or not output.is_file():
        raise NoFigure(f"py-spy: {done.stderr.strip()[-200:]}")
    return output.read_text()


def read_stacks(text: str) -> Frame:
    """Without the frames above the event loop, which are the same in all."""
    root = Frame()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        root.samples += int(count)
        frame = root
        names = stack.split(";")
        loop = max((place for place, name in enumerate(names) if "asyncio/runners.py" in name), default=-1)
        for name in names[loop + 1 :]:
            frame = frame.called.setdefault(name, Frame())
            frame.samples += int(count)
    return root


def picture(title: str, root: Frame) -> str:
    """The calls grow downwards; each frame is as wide as its share of the samples, and its tooltip has its name and share."""
    boxes = list(_boxes(root, root.samples, 0, 0))
    height = 40 + _ROW * (1 + max((depth for depth, *_ in boxes), default=0))
    drawn = []
    for depth, x, width, name, share in boxes:
        y = 34 + depth * _ROW
        shown = name.split(" (")[0][: int(width / 6.2)] if width > 24 else ""
        drawn.append(
            f'<g><title>{_escaped(name)}: {share:.1%}</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" '
            f'height="{_ROW - 1}" fill="{_colour(name)}"/><text x="{x + 2:.1f}" y="{y + 12}">{_escaped(shown)}</text></g>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="10">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/><text x="8" y="22" font-size="15" font-family="sans-serif" '
        f'font-weight="bold">{_escaped(title)}: {root.samples:,} samples</text>{"".join(drawn)}</svg>\n'
    )


def _boxes(frame: Frame, total: int, depth: int, x: float) -> Iterator[tuple[int, float, float, str, float]]:
    for name, called in sorted(frame.called.items()):
        width = _WIDTH * called.samples / total
        if called.samples >= total * _LEAST:
            yield depth, x, width, name, called.samples / total
            yield from _boxes(called, total, depth + 1, x)
        x += width


def _colour(name: str) -> str:
    """Ours in green, libraries in grey, each a little different from its neighbours."""
    shade = sum(name.encode()) % 24
    if "quart_async_api" in name:
        return f"rgb({70 + shade},{175 + shade},{150 + shade})"
    return f"rgb({205 + shade},{208 + shade},{214 + shade})"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
