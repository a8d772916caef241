"""What is drawn: each module has some of the diagrams, and says how to draw them."""

from __future__ import annotations

from collections.abc import Callable

from ..canvas import Canvas
from . import classes, examples, fireflies, hosts, house, inside, sequences, topologies, wire

DRAWINGS: dict[str, Callable[[], Canvas]] = {
    **hosts.DRAWINGS,
    **classes.DRAWINGS,
    **sequences.DRAWINGS,
    **inside.DRAWINGS,
    **wire.DRAWINGS,
    **house.DRAWINGS,
    **examples.DRAWINGS,
    **topologies.DRAWINGS,
    **fireflies.DRAWINGS,
}
"""How each picture of ``docs/pictures`` is drawn, by its name."""
