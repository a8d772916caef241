"""Random faults from a seed, and the ledger of what was delivered: ``make faults``.

Charts on three brokers send to each other, steadily and in bursts, while brokers are killed,
restarted and frozen, raise alarms and reject; connections are cut on one side or both, silenced,
delayed and lossy; links are thin; and confirms do not come. After each fault events have to be
consumed again before the next. Backlogs are small, so that a broker which is away or sick for some
seconds costs events. Ends with 1 if an event was lost that its sender has not counted, if one was
duplicated or reordered, or if ``transmit`` raised.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from miros_rabbitmq import Limits
from tests.faults.system import HEARTBEAT_S, Storm, system

LIMITS = Limits(heartbeat_s=HEARTBEAT_S, absent_after_s=2.0, slow_after_s=2.0, backlog_events=1_000)
"""What is absent or slow is found in seconds, and its backlog is full a little later."""


def main() -> int:
    """Run the storm, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many faults")
    parser.add_argument("--seed", type=int, default=1, help="which faults")
    parser.add_argument("--charts", type=int, default=3, help="how many charts on the brokers")
    parser.add_argument("--brokers", type=int, default=3, help="how many brokers")
    parser.add_argument("--verbose", action="store_true", help="show the package's log")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.CRITICAL,
        format="%(asctime)s %(message)s",
    )
    began_s = time.monotonic()
    hosts = [f"127.0.0.{number}" for number in range(31, 31 + options.brokers)]
    with (
        system(hosts, charts=options.charts, limits=LIMITS) as victim,
        victim.running(),
    ):
        storm = Storm(victim, options.seed, sick=True)
        for number in range(1, options.count + 1):
            name, took_s = storm.strike()
            print(
                f"{time.monotonic() - began_s:6.1f} s  fault {number:3}: {name:32} "
                f"consumed again after {took_s:5.2f} s",
                flush=True,
            )
        verdict = victim.settle()
        print(f"\nseed {options.seed}: {sum(storm.counts.values())} faults")
        for name, count in storm.counts.most_common():
            print(f"  {count:3} {name}")
        print(f"  {victim.describe()}")
        for error in victim.errors.found:
            print("unexpected:", error)
        uncounted = victim.uncounted()
        refused = sum(talker.refused for talker in victim.talkers)
        print(
            f"  of {verdict.lost:,} lost, {uncounted:,} were not counted; transmit raised "
            f"{refused:,} times, and took {max(one.slowest_s for one in victim.talkers):.1f} s"
        )
        wrong = (uncounted, refused, verdict.duplicated, verdict.reordered, verdict.unexpected)
        is_well = not (any(wrong) or victim.errors.found)
    print("nothing lost but what is counted, and in order" if is_well else "FAILED")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
