"""Takes the pictures of RabbitMQ's management page that docs/reflection.rst shows.

    .venv/bin/python tools/management.py

It boots a private RabbitMQ with the management plugin, lets the team of the tutorial work at it for
a while, and opens the plugin's pages in Debian's chromium (see pictures.py). Each picture is one
table, with the columns that matter here, so that it can be read on a phone, too: the plugin lets
everybody choose columns, at the right of each table. The pictures go into docs/pictures; the page
shows them in the width that is printed.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from miros_rabbitmq import LocalBroker
from miros_rabbitmq.broker.node_files import find_rabbitmq
from tools.pictures import Browser, browser

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"

TABLES: dict[str, tuple[str, list[str]]] = {
    "management_exchanges": ("exchanges", ["type", "rate-in", "rate-out"]),
    "management_features": ("queues", ["features"]),
    "management_queues": ("queues", ["msgs-ready", "msgs-unacked", "rate-incoming"]),
    "management_connections": ("connections", ["state", "channels", "from_client", "to_client"]),
}
"""The pictures: the page of the plugin, and which of its columns, by the plugin's own names."""

SHARPNESS = 1.5
"""Pixels of a picture for each one of the page."""

WORK_S = 30
"""The plugin shows rates of the last seconds; in the first ones the team only gathers."""

START = """
    [code:add_pathz(Path) || Path <- filelib:wildcard("{plugins}")], application:load({name}),
    application:set_env({name}, tcp_config, [{{ip, "{host}"}}, {{port, {port}}}]),
    application:load({name}_agent), rabbit_boot_steps:run_boot_steps([{name}_agent, {name}]),
    application:ensure_all_started({name}).
"""
"""Starts the plugin and its agent, which counts, in a node that runs; a private node has no plugin
in its own folder."""

CHOOSE = """
    (() => {{
        for (const group of Object.values(COLUMNS["{page}"] ?? ALL_COLUMNS["{page}"]))
            for (const [name] of group)
                store_pref("column-{page}-" + name, String({columns}.includes(name)));
        window.location.hash = "#/{page}";
        update();
        return [];
    }})()
"""
"""JavaScript: opens a page of the plugin with some columns."""

PLACE = """
    (() => {
        const cells = [...document.querySelectorAll("table.list :is(th, td):not(.plus-minus)")];
        const boxes = cells.map(cell => cell.getBoundingClientRect());
        const rows = [...document.querySelectorAll("table.list tr")].slice(0, 12);
        if (!boxes.length) return [];
        const [x, y] = [boxes[0].x, boxes[0].y];
        const right = Math.max(...boxes.map(box => box.right));
        return [x, y, right - x, rows.at(-1).getBoundingClientRect().bottom - y].map(String);
    })()
"""
"""JavaScript: where the table is: ten lines of it at most, without the button beside its head."""


def free_port(host: str) -> int:
    """A TCP port that nobody listens to."""
    with socket.socket() as one:
        one.bind((host, 0))
        return int(one.getsockname()[1])


@contextmanager
def team(broker: LocalBroker) -> Iterator[None]:
    """The base and two robots, at work."""
    place = str(broker.address)
    environment = {
        **os.environ,
        "RABBIT_USER": broker.user,
        "RABBIT_PASSWORD": broker.password,
        "MESH_KEY": Fernet.generate_key().decode(),
        "PYTHONPATH": str(ROOT),
    }
    at = ["--host", place, "--addresses", place, "--orders", "1000"]
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "team" / "team.py"), member, *at],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for member in ("base", "wren", "finch")
    ]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def take(view: Browser, name: str) -> None:
    """Take one picture, after the page has been drawn with its columns."""
    page, columns = TABLES[name]
    view.value_of(CHOOSE.format(page=page, columns=json.dumps(columns)))
    time.sleep(6)  # the page draws itself anew every five seconds
    place = view.value_of(PLACE)
    if not place:
        sys.exit(f"the page {page} has no table")
    x, y, width, height = map(float, place)
    clip = {"x": x - 1, "y": y - 1, "width": width + 2, "height": height + 2, "scale": 1}
    taken = view.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    (PICTURES / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
    print(f"{name}: {width:.0f} x {height:.0f}")


def main() -> None:
    """Boot the broker, start the team, and take all pictures."""
    installed = find_rabbitmq().parent
    with LocalBroker("127.0.0.2", user="robot") as broker, ExitStack() as stack:
        port = free_port(broker.host)
        plugins = f"{installed}/plugins/*/ebin"
        name = "rabbitmq_management"
        # Before the team: it counts for connections that are opened from then on.
        broker.ctl("eval", START.format(plugins=plugins, name=name, host=broker.host, port=port))
        stack.enter_context(team(broker))
        view = stack.enter_context(browser())
        time.sleep(WORK_S)
        size = {"width": 1280, "height": 900, "deviceScaleFactor": SHARPNESS, "mobile": False}
        view.call("Emulation.setDeviceMetricsOverride", **size)
        login = base64.b64encode(f"{broker.user}:{broker.password}".encode()).decode()
        view.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {login}"})
        view.call("Page.navigate", url=f"http://{broker.host}:{port}/")
        time.sleep(3)
        log_in = f"set_auth_pref('{broker.user}:{broker.password}'); location.reload(); []"
        view.value_of(log_in)
        time.sleep(5)
        for one in TABLES:
            take(view, one)


if __name__ == "__main__":
    main()
