"""The older path of the two chart classes, kept for programs that import from it."""

from .chart.networked import NetworkedActiveObject, NetworkedFactory

__all__ = ["NetworkedActiveObject", "NetworkedFactory"]
