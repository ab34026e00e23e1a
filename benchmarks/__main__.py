"""`python -m benchmarks [--quick] [PART…]` measures the parts, all by default, and writes the page and plots to build/bench."""

import argparse
import os
import sys
import time
from collections.abc import Callable

from . import callbacks, comics, crowds, flames, http, jobs, many_rows, start
from .figures import RESULTS, Part, read
from .machine import LOAD_CORE
from .page import missed, page
from .plots import plot

PARTS: dict[str, Callable[[bool], Part]] = {
    "http": lambda quick: http.measure(http.QUICK, http.SHORT) if quick else http.measure(),
    "jobs": lambda _: jobs.measure(),
    "crowds": lambda _: crowds.measure(),
    "comics": lambda _: comics.measure(),
    "start": lambda _: start.measure(),
    "many_rows": lambda _: many_rows.measure(),
    "callbacks": lambda _: callbacks.measure(),
    "flames": lambda _: flames.measure(),
}
QUICK = ("http",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer peers, and shorter rounds")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    given = parser.parse_args()
    if unknown := [name for name in given.parts if name not in PARTS]:
        parser.error(f"{unknown[0]!r} is not a part: there are {', '.join(PARTS)}")
    os.sched_setaffinity(0, {LOAD_CORE})
    for name in given.parts or (QUICK if given.quick else PARTS):
        began = time.monotonic()
        part = PARTS[name](given.quick)
        part.commands = [f"make bench-quick PARTS={name}" if given.quick else f"make bench PARTS={name}"]
        part.write()
        (RESULTS / f"{name}.svg").write_text(plot(part))
        print(f"{name}: {time.monotonic() - began:.0f} s, {part.thrown_away} turns thrown away, "
              f"{part.kept_noisy} kept although the machine was not quiet")  # fmt: skip
    parts = read(RESULTS)
    (RESULTS / "page.md").write_text(page(parts))
    (RESULTS / "missed.txt").write_text("".join(f"{line}\n" for line in missed(parts)))
    sys.stdout.write(f"{RESULTS / 'page.md'}\n")


if __name__ == "__main__":
    main()
