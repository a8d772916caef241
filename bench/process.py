"""What the package costs a process by being there: memory, imports, and the first transmit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from .figure import Figure, Result, Size, judged, middle
from .stage import ROOT, Stage

STARTS = 10
"""Fresh processes of each kind, in turns; the median counts."""

_PACKAGES = "import miros, pika, cryptography.fernet"

_END = """
import gc, json, resource
gc.collect()
pages = int(open("/proc/self/statm").read().split()[1])
print(json.dumps([time.perf_counter() - began, pages * resource.getpagesize() / 2**20]))
"""

_BEGIN = """
import json, sys, time
chart, url = json.loads(sys.argv[1])
began = time.perf_counter()
"""

_KINDS = {
    "imports": _PACKAGES,
    "package": "import miros_rabbitmq",
    "class": "from miros_rabbitmq import NetworkedActiveObject",
    "pika": f"""
{_PACKAGES}, netifaces
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
""",
    "chart": """
from miros import return_status
from miros_rabbitmq import NetworkedActiveObject
def resting(chart, e):
    chart.temp.fun = chart.top
    return return_status.SUPER
node = NetworkedActiveObject("rests", **chart)
node.start_at(resting)
assert node.nets.wait_for_peers(1, 10)
""",
    "first": """
from miros import Event, return_status
from miros_rabbitmq import NetworkedActiveObject
def resting(chart, e):
    chart.temp.fun = chart.top
    return return_status.SUPER
node = NetworkedActiveObject("rests", **chart)
node.start_at(resting)
node.transmit(Event(signal="FIRST", payload=1))
""",
}

_STOP = """
if "node" in globals():
    node.stop()
"""


def _run(stage: Stage, kind: str, cache: str) -> tuple[float, float]:
    """Seconds and MiB of a fresh process, which finds its modules compiled."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    own: dict[str, Any] = stage.charts[0]
    script = _BEGIN + _KINDS[kind] + _END + _STOP
    ended = subprocess.run(
        [sys.executable, "-c", script, json.dumps([own, stage.urls[0]])],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, mib = json.loads(ended.stdout.splitlines()[-1])
    return seconds, mib


def process(stage: Stage, _: Size) -> Result:
    """Memory with two brokers, the time of the import, and until the first event is sent."""
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _KINDS}
    with tempfile.TemporaryDirectory() as cache:
        for _number in range(1 + STARTS):
            for kind, runs in taken.items():
                runs.append(_run(stage, kind, cache))
    # The first of each has compiled the modules.
    seconds = {kind: middle(one[0] for one in runs[1:]) for kind, runs in taken.items()}
    mib = {kind: middle(one[1] for one in runs[1:]) for kind, runs in taken.items()}
    figures: list[Figure] = [
        judged("process", "memory: one pika connection", mib["pika"], "MiB", to=mib["pika"]),
        judged(
            "process",
            "memory: a chart with two brokers",
            mib["chart"],
            "MiB",
            to=mib["pika"],
            at_most=1.25,
        ),
    ]
    one = seconds["imports"]
    for kind, what, at_most in (
        ("imports", "import miros, pika, cryptography.fernet", None),
        ("package", "import miros_rabbitmq", 1.3),
        ("class", "from miros_rabbitmq import NetworkedActiveObject", None),
        ("first", "import, start and the first transmit", None),
    ):
        figures.append(judged("process", what, seconds[kind], "s", to=one, at_most=at_most))
    return Result(figures)
