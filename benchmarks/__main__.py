"""`python -m benchmarks [--quick] [--rounds N] [PART…]` measures the parts, all by default, and writes them to build/bench."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from . import callbacks, comics, crowds, distributed, events, flames, http, jobs, many_rows, start
from .figures import RESULTS, Part, read
from .machine import LOAD_CORE
from .page import missed, page
from .plots import plot

# Each takes how many rounds there are to be.
PARTS: dict[str, Callable[[int], Part]] = {
    "http": lambda rounds: http.measure(pace=replace(http.FULL, rounds=rounds)),
    "jobs": lambda rounds: jobs.measure(replace(jobs.PACE, rounds=rounds)),
    "crowds": crowds.measure,
    "distributed": lambda rounds: distributed.measure(replace(distributed.PACE, rounds=rounds)),
    "events": events.measure,
    "comics": comics.measure,
    "start": start.measure,
    "many_rows": lambda rounds: many_rows.measure(replace(http.FULL, rounds=rounds)),
    "callbacks": callbacks.measure,
    "flames": lambda _: flames.measure(),
}
QUICK: dict[str, Callable[[int], Part]] = {
    "http": lambda rounds: http.measure(http.QUICK, replace(http.SHORT, rounds=rounds), short=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer peers and rows, and shorter rounds")
    parser.add_argument("--rounds", type=int, default=5, help="of each contender (default: 5)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    given = parser.parse_args()
    parts = QUICK if given.quick else PARTS
    if unknown := [name for name in given.parts if name not in parts]:
        parser.error(f"{unknown[0]!r} is not a part: there are {', '.join(parts)}")
    os.sched_setaffinity(0, {LOAD_CORE})
    failed = [name for name in given.parts or parts if not _measured(name, parts[name], given.rounds, given.quick)]
    found = read(RESULTS)
    (RESULTS / "page.md").write_text(page(found))
    (RESULTS / "missed.txt").write_text("".join(f"{line}\n" for line in missed(found)))
    print(f"{RESULTS / 'page.md'}")
    if failed:
        sys.exit(f"without results: {', '.join(failed)}")


def _measured(name: str, measure: Callable[[int], Part], rounds: int, quick: bool) -> bool:
    """Whether the part has new results. One that fails stops no other."""
    began = time.monotonic()
    for file in RESULTS.glob(f"{name}.*"):
        file.unlink()
    try:
        part = measure(rounds)
    except Exception:
        traceback.print_exc()
        return False
    part.command = f"make {'bench-quick' if quick else 'bench'} PARTS={name} ROUNDS={rounds}"
    part.seconds = round(time.monotonic() - began)
    part.write()
    if part.rows:
        (RESULTS / f"{name}.svg").write_text(plot(part))
    print(
        f"{name}: {part.seconds} s, {part.thrown_away} turns thrown away, {part.kept_noisy} noisy ones kept", flush=True
    )
    return True


if __name__ == "__main__":
    main()
