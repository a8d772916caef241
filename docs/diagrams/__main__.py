"""Draws every diagram into ``docs/pictures``: ``python -m docs.diagrams``, or ``make diagrams``."""

from __future__ import annotations

import sys

from .pictures import write_all

if __name__ == "__main__":
    for name in write_all():
        sys.stdout.write(f"drawn: {name}\n")
