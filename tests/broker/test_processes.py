"""Two processes, two brokers, a thousand events each way."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from cryptography.fernet import Fernet

from miros_rabbitmq import LocalBroker

from ..helpers import scaled
from .charts import arguments_for

COUNT = 1_000

ROOT = Path(__file__).parents[2]


def start_peer(name: str, **arguments: Any) -> subprocess.Popen[str]:
    peer = subprocess.Popen(
        [sys.executable, "-m", "tests.broker.peer", name, str(COUNT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    tell(peer, pickle.dumps(arguments).hex())
    return peer


def tell(peer: subprocess.Popen[str], line: str) -> None:
    pipe: IO[str] | None = peer.stdin
    assert pipe is not None
    pipe.write(line + "\n")
    pipe.flush()


def hear(peer: subprocess.Popen[str]) -> str:
    assert peer.stdout is not None
    return peer.stdout.readline().strip()


def test_a_thousand_events_each_way_between_two_processes_on_two_brokers(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    key = Fernet.generate_key()
    peers = [
        start_peer("one", **arguments_for(broker_a, broker_b, key=key)),
        start_peer("two", **arguments_for(broker_b, broker_a, key=key)),
    ]
    try:
        for said in ("ready", "done"):
            for peer in peers:
                assert hear(peer) == said
            for peer in peers:
                tell(peer, "go on")
        reports = [pickle.loads(bytes.fromhex(hear(peer))) for peer in peers]
        assert [peer.wait(scaled(30)) for peer in peers] == [0, 0]
    finally:
        for peer in peers:
            peer.kill()
            peer.communicate()
    for report in reports:
        assert report["heard"] == list(range(COUNT)), "all, in order, once"
        assert report["gaps"] == 0
        assert report["confirmed"] == 2 * COUNT, "by both brokers"
        assert report["own"] > 0
