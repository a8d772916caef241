"""Random kills and cuts from a seed, and the ledger of what was delivered: ``make faults``.

Charts on two brokers send to each other, steadily and in bursts, while brokers are killed and
restarted, and connections cut, silenced, delayed and throttled. After each fault events have to be
consumed again before the next. Ends with 1 if anything was lost, duplicated or reordered.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.system import Storm, system


def main() -> int:
    """Run the storm, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many faults")
    parser.add_argument("--seed", type=int, default=1, help="which faults")
    parser.add_argument("--charts", type=int, default=3, help="how many charts on two brokers")
    parser.add_argument("--verbose", action="store_true", help="show the package's log")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.CRITICAL,
        format="%(asctime)s %(message)s",
    )
    began_s = time.monotonic()
    hosts = ["127.0.0.31", "127.0.0.32"]
    with system(hosts, charts=options.charts) as victim, victim.running():
        storm = Storm(victim, options.seed)
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
        is_well = verdict.is_clean and not victim.errors.found
    print("nothing lost, duplicated or reordered" if is_well else "FAILED")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
