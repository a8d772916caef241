"""The life of a link: its states, its steps, and the table of the state to which each step leads.

A step that the table does not have is a bug in this package: it raises `IllegalStep` and changes
nothing. ::

    NEW ────> CONNECTING ──> OPENING ──> READY <──> BLOCKED      the broker lets nobody publish
                 ^  │           │          │           │
                 │  v           v          v           v
                WAITING / REFUSED <──────── (lost / refused)     again after a while / a long while
                       any ──> CLOSING ──> STOPPED ──> CONNECTING (started anew)
"""

from __future__ import annotations

import enum


class IllegalStep(RuntimeError):
    """A link was asked for a step that its state does not have; nothing was changed."""


class SessionState(enum.Enum):
    """Where a link stands; in `READY` and `BLOCKED` it is connected."""

    NEW = "new"
    CONNECTING = "connecting"
    OPENING = "opening"
    READY = "ready"
    BLOCKED = "blocked"
    WAITING = "waiting"
    REFUSED = "refused"
    CLOSING = "closing"
    STOPPED = "stopped"


class Step(enum.Enum):
    """What happens to a link."""

    START = enum.auto()
    CONNECTED = enum.auto()
    SET_UP = enum.auto()
    BLOCK = enum.auto()
    UNBLOCK = enum.auto()
    LOSE = enum.auto()
    REFUSE = enum.auto()
    CLOSE = enum.auto()
    END = enum.auto()


_S = SessionState
LIFE: dict[tuple[SessionState, Step], SessionState] = {
    (_S.NEW, Step.START): _S.CONNECTING,
    (_S.CONNECTING, Step.CONNECTED): _S.OPENING,
    (_S.OPENING, Step.SET_UP): _S.READY,
    (_S.READY, Step.BLOCK): _S.BLOCKED,
    (_S.BLOCKED, Step.UNBLOCK): _S.READY,
    (_S.WAITING, Step.START): _S.CONNECTING,
    (_S.REFUSED, Step.START): _S.CONNECTING,
    (_S.STOPPED, Step.START): _S.CONNECTING,
    (_S.CLOSING, Step.END): _S.STOPPED,
}
for _live in (_S.CONNECTING, _S.OPENING, _S.READY, _S.BLOCKED):
    LIFE[_live, Step.LOSE] = _S.WAITING
    LIFE[_live, Step.REFUSE] = _S.REFUSED
for _any in (_S.CONNECTING, _S.OPENING, _S.READY, _S.BLOCKED, _S.WAITING, _S.REFUSED):
    LIFE[_any, Step.CLOSE] = _S.CLOSING


def after(state: SessionState, step: Step, session: str = "a session") -> SessionState:
    """The state that follows.

    Args:
        state: where the link stands.
        step: what happens to it.
        session: the name of the link, for the error.

    Raises:
        IllegalStep: the state has no such step.
    """
    try:
        return LIFE[state, step]
    except KeyError:
        raise IllegalStep(f"{session}: {state.value} has no step {step.name}") from None
