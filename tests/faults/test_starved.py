"""A process that runs out of file descriptors or threads, at every place in turn."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from miros_rabbitmq import Limits, LocalBroker

from ..broker.charts import arguments_for
from ..helpers import scaled
from .starved import SCENES

KEY = Fernet.generate_key()
ROOT = Path(__file__).parents[2]


def play(broker: LocalBroker, scene: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a scene; fails if it does."""
    arguments = arguments_for(
        broker,
        key=KEY,
        limits=Limits(stop_timeout_s=1.0, reconnect_min_s=0.05, reconnect_max_s=0.1),
    )
    arguments["start_timeout"] = scaled(0.5)
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.starved", scene],
        input=pickle.dumps(arguments).hex() + "\n",
        capture_output=True,
        text=True,
        timeout=scaled(240),
        cwd=ROOT,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "end" in ended.stdout, said
    return ended


@pytest.mark.parametrize("scene", SCENES)
def test_whatever_runs_out_ends_in_an_error_of_ours_or_works_and_leaves_nothing(
    broker_a: LocalBroker, scene: str
) -> None:
    ended = play(broker_a, scene)
    print(ended.stdout)
    if scene != "broker_descriptors" and scene != "ctl_descriptors":
        # There, the shell that was to start the node may complain.
        assert not ended.stderr, ended.stderr


@pytest.mark.parametrize("what", ["no descriptors", "threads"])
def test_a_program_can_end_while_nothing_is_left(broker_a: LocalBroker, what: str) -> None:
    ended = play(broker_a, f"leave {what}")
    assert "Traceback" not in ended.stderr, ended.stderr
