"""Takes pictures of every page of the built site: wide and narrow, light and dark.

    make pictures
    make pictures PAGES="index delivery"

The pictures are in build/pictures; a page is cut into pieces that can be looked at. Look at them
after a change of docs/_static, of a diagram or of a table. A page that is wider than its window, so
that it scrolls sideways, is an error, and so is whatever a page would fetch from elsewhere. Tables
and programs that scroll by themselves are told. All pages take two minutes, or many on a busy
machine. It needs Debian's chromium, and installs it if it may.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SITE = ROOT / "build" / "docs"
PICTURES = ROOT / "build" / "pictures"

WIDTHS = {"wide": 1280, "narrow": 390}
"""Of a laptop's window and of a phone, in pixels of CSS."""

PIECE = 2_000
"""The greatest height of a picture in pixels."""

HIGHEST = 40_000
"""What is below is not taken: some ten metres of page."""

TOO_WIDE = """
    (() => {
        const most = document.documentElement.clientWidth;
        const scrolls = node => {
            for (let up = node.parentElement; up && up !== document.body; up = up.parentElement)
                if (getComputedStyle(up).overflowX !== "visible") return true;
            return false;
        };
        return [...document.querySelectorAll("article *")]
            .filter(node => node.getBoundingClientRect().right > most + 1 && !scrolls(node))
            .map(node => node.tagName + ": " + (node.textContent || "").trim().slice(0, 60));
    })()
"""
"""JavaScript: what reaches beyond the window, and is in nothing that scrolls by itself."""


SCROLLS = """
    [...document.querySelectorAll(innerWidth < 800 ? ".table-wrapper" : ".table-wrapper, pre")]
        .filter(node => node.scrollWidth > node.clientWidth + 1)
        .map(node => node.scrollWidth - node.clientWidth + " px: "
            + node.textContent.trim().replace(/\\s+/g, " ").slice(0, 60))
"""
"""JavaScript: the tables, and in a wide window the programs, that are wider than the page."""


class Browser:
    """A chromium without a window, which takes commands from two pipes.

    Source of the commands: the Chrome DevTools Protocol,
    https://chromedevtools.github.io/devtools-protocol/.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.foreign: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")

    def call(self, method: str, **arguments: Any) -> Any:
        """Run a command and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def value_of(self, expression: str) -> list[str]:
        """Evaluate a list of JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return list(found["result"]["value"])

    def open(self, page: Path) -> None:
        """Show a page, and return when it is complete."""
        self.call("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                sys.exit("chromium has ended")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("file:", "data:")):
                self.foreign.append(url)
        return message


def chromium() -> str:
    """The path of Debian's chromium; installs it if it is missing."""
    found = shutil.which("chromium")
    if found is None:
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        subprocess.run(
            [*sudo, "apt-get", "install", "-y", "--no-install-recommends", "chromium"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        found = shutil.which("chromium")
    return found or sys.exit("please install chromium")


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, which has ended afterwards."""
    here, there = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        # The browser reads commands from descriptor 3 and writes to 4.
        command = f'exec "$@" 3<&{here[0]} 4>&{there[1]}'
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--remote-debugging-pipe"]
        process = subprocess.Popen(
            ["bash", "-c", command, "sh", chromium(), *options, f"--user-data-dir={profile}"],
            pass_fds=(here[0], there[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(here[0])
        os.close(there[1])
        try:
            yield Browser(here[1], there[0])
        finally:
            os.close(here[1])  # the browser ends with its commands
            os.close(there[0])
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def take(view: Browser, page: Path, width: int, dark: bool, name: str) -> list[str]:
    """Take the pictures of a page, print what scrolls in it, and return what is too wide."""
    theme = "dark" if dark else "light"
    view.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": theme}],
    )
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    view.call("Emulation.setDeviceMetricsOverride", **size)
    view.open(page)
    height = view.call("Page.getLayoutMetrics")["cssContentSize"]["height"]
    top, number = 0, 1
    while top < min(height, HIGHEST):
        part = {"x": 0, "y": top, "width": width, "height": min(PIECE, height - top), "scale": 1}
        taken = view.call("Page.captureScreenshot", clip=part, captureBeyondViewport=True)
        picture = PICTURES / f"{name}-{number:02}.png"
        picture.write_bytes(base64.b64decode(taken["data"]))
        top, number = top + PIECE, number + 1
    for table in view.value_of(SCROLLS):
        if not dark:
            print(f"{name}: this scrolls: {table}")
    return view.value_of(TOO_WIDE)


def main() -> None:
    """Take all pictures, or those of the pages that are named."""
    wanted = sys.argv[1:]
    pages = [SITE / f"{name}.html" for name in wanted] or sorted(SITE.rglob("*.html"))
    if not pages or not all(page.is_file() for page in pages):
        sys.exit("there is no such page: run make docs first")
    if not wanted:
        shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    faults = []
    with browser() as view:
        for page in pages:
            name = str(page.relative_to(SITE).with_suffix("")).replace("/", ".")
            for kind, width in WIDTHS.items():
                for dark in (False, True):
                    shown = f"{name}-{kind}-{'dark' if dark else 'light'}"
                    faults += [f"{shown}: {one}" for one in take(view, page, width, dark, shown)]
        faults += [f"is fetched: {url}" for url in view.foreign]
    print(f"{len(pages)} pages: {PICTURES}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
