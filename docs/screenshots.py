"""`python -m docs.screenshots` takes the pictures of the console into docs/assets/console, from a service of its own.

Every page of the menu, a job, an opened call and a route, as WebP at three widths; and one run
of the four deliveries as an animated SVG, of what the page drew.
"""

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from tests.browser.chromium import ARGUMENTS, find

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "assets" / "console"
STATIC = ROOT / "src" / "quart_async_api" / "web" / "static"
WIDTHS = {360: 780, 1280: 900, 2560: 1300}  # and heights

_TO_WEBP = """async (png) => {
  const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", 0.82).split(",")[1];
}"""

# The animation: what the page drew is uncovered from left to right, at the speed of its clock.
_LANE, _TOP, _LEFT, _MARGIN = 112, 66, 170, 24
_REST_SECONDS = 3.0
_READ_LANES = """() => [...document.querySelectorAll("#deliveries .delivery")].map((lane) => ({
  title: lane.querySelector("h2").textContent, verdict: lane.querySelector(".verdict").textContent.trim(),
  drawing: lane.querySelector("svg").innerHTML, width: lane.querySelector("svg").clientWidth }))"""


@contextmanager
def service() -> Iterator[str]:
    """A service with fake upstreams, an open receiver of callbacks and a database of its own; yields its URL."""
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "QAA_DATABASE_URL": f"sqlite:///{folder}/console.db", "QAA_INBOX": "1"}
        subprocess.run([sys.executable, "-m", "quart_async_api", "migrate"], env=environment, check=True, stdout=2)
        command = [sys.executable, "-m", "quart_async_api.demo", "--bind", "127.0.0.1:0"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
            try:
                for line in process.stderr or ():
                    if found := re.search(r"listens on (http://\S+),", line):
                        yield found[1]
                        break
            finally:
                process.terminate()
                process.communicate()


def populate(page: Page) -> None:
    """Run jobs that succeed, fail, are cancelled, run and wait, and add users."""
    request = page.request
    for name in ("Ada Lovelace", "Grace Hopper", "Edsger Dijkstra"):
        request.post("/add-user", data={"name": name, "email": f"{name.split()[0].lower()}@example.com"})
    for task in ("comic", "external-api", "gather", "start-task", "test") * 3:
        request.post("/jobs", data={"task": task})
    failing = request.post("/jobs", data={"task": "gather", "timeout": 0.5}).json()
    waiting = request.post("/jobs", data={"task": "test", "delay": 600}).json()
    request.delete(waiting["links"]["self"])
    request.post("/jobs", data={"task": "mock-db", "delay": 900})
    request.get(failing["links"]["self"], headers={"Prefer": "wait=20"})
    time.sleep(6)
    request.post("/jobs", data={"task": "start-task"})


def save(page: Page, blank: Page, name: str) -> None:
    """Save what the page shows as WebP, encoded by `blank`, a page without a policy."""
    png = base64.b64encode(page.screenshot()).decode()
    (PICTURES / f"{name}.webp").write_bytes(base64.b64decode(blank.evaluate(_TO_WEBP, png)))


def run_deliveries(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Start all four").click()
    page.locator("#deliveries[data-state=done]").wait_for(timeout=30_000)


def pictures(browser: Browser, url: str) -> None:
    """Take all pictures of the console at `url`."""
    blank = browser.new_page()
    blank.goto("about:blank")
    for number, (width, height) in enumerate(WIDTHS.items()):
        page = browser.new_page(base_url=url, viewport={"width": width, "height": height})
        if number == 0:
            populate(page)
        run_deliveries(page)
        menu = page.locator("#menu a")
        links = [(link.text_content() or "", link.get_attribute("href") or "/") for link in menu.all()]
        failed = page.request.get("/jobs?status=failed").json()["items"][0]["id"]
        links += [("Job", f"/console/jobs/{failed}"), ("Call", "/console/try#post_jobs"), ("Route", "/docs/post_jobs")]
        for name, address in links:
            if address != "/":
                page.goto(address)
                page.wait_for_timeout(700)
            save(page, blank, f"{name.lower().replace(' ', '-')}-{width}")
        if width == 1280:
            page.set_viewport_size({"width": 960, "height": height})
            page.goto("/")
            page.get_by_label("The call").select_option("POST /start-task")
            page.get_by_role("button", name="Start all four").click()
            page.locator("#deliveries[data-state=done]").wait_for(timeout=30_000)
            (PICTURES / "four-deliveries.svg").write_text(animation(page.evaluate(_READ_LANES), _clock(page)), "utf-8")
        page.close()


def _clock(page: Page) -> tuple[str, float]:
    """Return the drawing of the clock, and how many seconds it shows."""
    drawing = page.locator("#deliveries .clock").inner_html()
    marks = [
        (float(at), float(text.removesuffix(" s")))
        for at, text in re.findall(r'<text[^>]* x="([\d.-]+)"[^>]*text-anchor="middle"[^>]*>([\d.]+)', drawing)
    ]
    width = float(page.locator("#deliveries .clock").evaluate("clock => clock.clientWidth"))
    at, seconds = marks[-1]
    return drawing, seconds * width / at


def animation(lanes: list[dict[str, Any]], clock: tuple[str, float]) -> str:
    """Return the SVG: the lanes and their clock, uncovered in `clock` seconds, again and again."""
    drawing, seconds = clock
    width = lanes[0]["width"]
    whole, height = _LEFT + width + _MARGIN, _TOP + _LANE * len(lanes) + 8
    total = seconds + _REST_SECONDS
    style = (STATIC / "style.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    drawn = re.search(
        r"^\.rail-line.*?^\.playhead[^\n]*$", (STATIC / "home.css").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    done = 100 * seconds / total
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'viewBox="0 0 {whole} {height}" width="{whole}" height="{height}">',
        "<title>One slow call in four deliveries, drawn in time</title>",
        f"<style>svg {{{light}}} @media (prefers-color-scheme: dark) {{ svg {{{dark}}} }}",
        f"{drawn[0] if drawn else ''}",
        ".paper { fill: var(--paper); } .title { font: 600 17px system-ui, sans-serif; fill: var(--ink); }",
        ".verdict { font: 600 13px var(--mono); fill: var(--green); } .rule { stroke: var(--line); }",
        ".head { font: 600 14px var(--mono); fill: var(--ink); } .clock .mark { fill: var(--quiet); }",
        f".cover, .hand, .verdict {{ animation: {total:.2f}s linear infinite; }}",
        "@keyframes cover { from { transform: translateX(0) } "
        f"{done:.2f}%, to {{ transform: translateX({width}px) }} }}",
        f"@keyframes verdict {{ from, {done - 1:.2f}% {{ opacity: 0 }} {done:.2f}%, to {{ opacity: 1 }} }}",
        ".cover, .hand { animation-name: cover; } .verdict { animation-name: verdict; }",
        "@media (prefers-reduced-motion: reduce) { .cover, .hand { display: none } .verdict { animation: none } }</style>",
        f'<rect class="paper" width="{whole}" height="{height}" rx="12"/>',
        f'<text class="head" x="{_MARGIN}" y="30">one async def, four deliveries</text>',
        f'<clipPath id="sheet"><rect x="{_LEFT - 2}" y="{_TOP - 30}" width="{width + 4}" height="{height}"/></clipPath>',
        f'<g class="clock" transform="translate({_LEFT} {_TOP - 30})">{drawing}</g>',
    ]
    for number, lane in enumerate(lanes):
        top = _TOP + number * _LANE
        parts += [
            f'<line class="rule" x1="{_MARGIN}" x2="{whole - _MARGIN}" y1="{top}" y2="{top}"/>',
            f'<text class="title" x="{_MARGIN}" y="{top + 48}">{escape(lane["title"])}</text>',
            f'<text class="verdict" x="{_MARGIN}" y="{top + 70}">{escape(lane["verdict"])}</text>',
            f'<g transform="translate({_LEFT} {top + 4})">{lane["drawing"]}</g>',
        ]
    parts += [
        '<g clip-path="url(#sheet)">',
        f'<rect class="paper cover" x="{_LEFT - 1}" y="{_TOP + 1}" width="{width + 6}" height="{height - _TOP - 9}"/>',
        f'<line class="playhead hand" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{height - 8}"/>',
        "</g></svg>\n",
    ]
    return "\n".join(parts)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with service() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        pictures(browser, url)
        browser.close()


if __name__ == "__main__":
    main()
