"""Native or plain I/O: decided once for each process, at its first connection.

Native is used if a check finds all parts of pika that it relies on, and bytes that equal pika's
own. Otherwise, or with ``MIROS_RABBITMQ_IO=plain`` in the environment, plain is used. That is
logged once, and the statistics show it. Any other value, be it empty, is an error where a node or a
publisher is constructed.
"""

from __future__ import annotations

import functools
import os
import threading

from ..exceptions import SettingsError
from ..logs import RelayedLogger
from .message_io import Wire
from .native import NativeWire, misfit
from .plain import PlainWire

logger: RelayedLogger = RelayedLogger(__name__)

VARIABLE = "MIROS_RABBITMQ_IO"
"""The environment variable that chooses: ``native`` or ``plain``."""

_NAMES = (NativeWire.name, PlainWire.name)


_choosing = threading.RLock()
"""Held while the choice is made: several threads may connect first, and it is logged once.
Reentrant: the handler of a signal may ask for `io_name` in the middle of the choice."""


def check_io_choice() -> None:
    """Check what the environment asks for, where a program is still told of mistakes.

    Raises:
        SettingsError: it asks for an I/O that there is not, or the variable is empty.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted is not None and wanted not in _NAMES:
        raise SettingsError(
            f"{VARIABLE} must be 'native' or 'plain', not {wanted!r}: set it to one of them, or "
            f"unset it (unset {VARIABLE})"
        )


def choose_wire() -> Wire:
    """Make the I/O of a new connection."""
    return PlainWire() if _is_plain() else NativeWire()


def io_name() -> str:
    """Which I/O this process uses: ``native`` or ``plain``."""
    return PlainWire.name if _is_plain() else NativeWire.name


def _is_plain() -> bool:
    with _choosing:
        return bool(_why_plain())


@functools.cache
def _why_plain() -> str:
    """Why native I/O is not used; empty if it is."""
    wanted = os.environ.get(VARIABLE) or NativeWire.name
    if wanted == PlainWire.name:
        reason = f"{VARIABLE} says so"
    else:
        if wanted != NativeWire.name:  # set since it was checked
            logger.warning(
                "%s must be 'native' or 'plain', not %r: trying native", VARIABLE, wanted
            )
        reason = misfit()
    if reason:
        logger.warning("messages are written and read by pika alone, which is slower: %s", reason)
    return reason


def forget_choice() -> None:
    """Make the choice again at the next connection; for tests."""
    _why_plain.cache_clear()
