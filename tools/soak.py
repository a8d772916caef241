"""Charts that talk for a long time, with faults now and then: ``make soak MINUTES=60``.

Two charts on two brokers send to each other at a steady rate. A connection is cut every minute or
so, a broker killed and restarted every five minutes. Once a minute, when all that was sent has been
consumed, memory, threads, file descriptors and the ledger are printed. Ends with 1 if anything was
lost, duplicated or reordered, or if threads, descriptors or memory have grown.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from miros_rabbitmq import Limits
from tests.faults.system import Storm, System, system

WARM_UP_S = 300.0
"""Pools and buffers fill until then: growth counts from here on, or from half of a short run."""

GROWTH_MIB = 8.0
"""More than what the allocator's arenas vary by."""

KILL_EVERY = 5


class Sample(NamedTuple):
    """What the process holds at one moment."""

    at_s: float
    memory_mib: float
    threads: int
    descriptors: int

    @classmethod
    def take(cls, began_s: float) -> Sample:
        """Look at this process."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        return cls(time.monotonic() - began_s, memory, threading.active_count(), descriptors)


def main() -> int:
    """Run the soak, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second, each way")
    parser.add_argument("--seed", type=int, default=1, help="which connections are cut")
    parser.add_argument("--hosts", nargs=2, default=["127.0.0.33", "127.0.0.34"])
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with system(options.hosts, charts=2, limits=Limits()) as subject:
        for talker in subject.talkers:
            talker.pause_s = 1.0 / options.rate
        with subject.running():
            return soak(subject, options.minutes * 60.0, options.seed)


def soak(subject: System, duration_s: float, seed: int) -> int:
    """Cut, kill, wait and measure, until the time is over; return the exit code."""
    storm = Storm(subject, seed)
    began_s = time.monotonic()
    interval_s = min(60.0, duration_s / 10)
    samples: list[Sample] = []
    pause = threading.Event()
    print("   min  memory MiB  threads  descriptors  ledger", flush=True)
    while time.monotonic() - began_s < duration_s:
        pause.wait(interval_s / 2)
        (storm.kill if len(samples) % KILL_EVERY == KILL_EVERY - 1 else storm.cut)()
        subject.wait_until_consumed_again(120)
        pause.wait(interval_s / 2)
        with subject.quiet(120) as so_far:
            sample = Sample.take(began_s)
        samples.append(sample)
        print(
            f"{sample.at_s / 60:6.1f}  {sample.memory_mib:10.1f}  {sample.threads:7}  "
            f"{sample.descriptors:11}  {so_far}",
            flush=True,
        )
    verdict = subject.settle()
    grown = growth(samples, min(WARM_UP_S, duration_s / 2))
    print(f"after {(time.monotonic() - began_s) / 60:.1f} minutes: {subject.describe()}")
    for complaint in [*grown, *subject.errors.found]:
        print("FAILED:", complaint)
    return 0 if verdict.is_clean and not grown and not subject.errors.found else 1


def growth(samples: list[Sample], warm_up_s: float) -> list[str]:
    """What has grown since the warm-up, in words."""
    warm = [sample for sample in samples if sample.at_s >= warm_up_s]
    if len(warm) < 2:
        return ["the run was too short to tell"]
    half = len(warm) // 2
    before, after = warm[:half], warm[half:]
    complaints = []
    if min(one.threads for one in after) > max(one.threads for one in before):
        complaints.append("the number of threads has grown")
    if min(one.descriptors for one in after) > max(one.descriptors for one in before):
        complaints.append("the number of file descriptors has grown")
    grown = after[-1].memory_mib - max(one.memory_mib for one in before)
    if grown > GROWTH_MIB:
        complaints.append(f"memory has grown by {grown:.1f} MiB")
    return complaints


if __name__ == "__main__":
    sys.exit(main())
