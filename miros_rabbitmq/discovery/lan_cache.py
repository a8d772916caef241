"""The cache of what the last search of the LAN found, so that the next start need not wait for one.

``.miros_rabbitmq_lan_cache.json`` in the working directory holds addresses and the time, and
nothing else. It is a hint: whoever reads it verifies what it says. It is replaced as a whole, so
that several processes may share it, nobody ever sees half of it, and no crash leaves it locked; one
that cannot be read counts as none, and is replaced.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ..exceptions import SettingsError
from ..urls import Address, parse_address

logger = logging.getLogger(__name__)

CACHE_FILE_NAME = ".miros_rabbitmq_lan_cache.json"

MAX_ADDRESSES = 1_024
"""Most addresses that are read or written: a /22."""

_MAX_BYTES = 64 * 1024
"""No such cache is larger; whatever is, is something else."""

_REWRITE_SHARE = 1 / 4
"""A cache whose addresses are still right is written again after this share of its validity: the
disk may be an SD card."""

_ABANDONED_S = 60.0
"""A half-written file as old as this was left by a process that died while it wrote."""


class CachedAddresses(NamedTuple):
    """What a cache says."""

    addresses: tuple[Address, ...]
    age_s: float


class LanCache:
    """One cache file; for one thread, and any number of processes.

    Args:
        path: the file.
        valid_s: how long its contents count; at 0 it is neither read nor written.
        now: the wall clock, in seconds.
    """

    def __init__(self, path: Path, valid_s: float, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._valid_s = valid_s
        self._now = now
        self._written: tuple[frozenset[Address], float] | None = None
        self._complained = False

    def load(self) -> CachedAddresses | None:
        """Return what the cache says, unless it is too old, broken, or not there."""
        if not self._valid_s:
            return None
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
            cached = self._parse(content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError, SettingsError) as error:
            logger.info("the cache %s cannot be read (%s) and is ignored", self.path, error)
            return None
        # A cache from the future was written by another clock.
        return cached if 0 <= cached.age_s <= self._valid_s else None

    def save(self, addresses: Iterable[Address]) -> None:
        """Write what was found, unless that stands there already and is fresh."""
        kept = sorted(set(addresses))[:MAX_ADDRESSES]
        if not self._valid_s or not kept:
            return
        now_s = self._now()
        if self._written is not None:
            before, at_s = self._written
            if before == frozenset(kept) and 0 <= now_s - at_s < self._valid_s * _REWRITE_SHARE:
                return
        content = json.dumps({"addresses": [str(one) for one in kept], "time": round(now_s, 3)})
        try:
            self._replace(content + "\n")
        except OSError as error:
            if not self._complained:
                self._complained = True
                logger.warning(
                    "the cache %s cannot be written (%s): the next start will search the LAN",
                    self.path,
                    error.strerror or error,
                )
            return
        self._written = (frozenset(kept), now_s)

    def _parse(self, content: bytes) -> CachedAddresses:
        if len(content) > _MAX_BYTES:
            raise ValueError("it is too large to be one")
        fields = json.loads(content)
        written_s = float(fields["time"])
        if not math.isfinite(written_s):
            raise ValueError("its time is none")
        addresses = tuple(parse_address(one) for one in fields["addresses"][:MAX_ADDRESSES])
        return CachedAddresses(addresses, self._now() - written_s)

    def _replace(self, content: str) -> None:
        folder = self.path.parent
        self._remove_abandoned()
        handle, name = tempfile.mkstemp(".tmp", self.path.name + ".", folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(content)
            Path(name).replace(self.path)  # in one step, as both are in one folder
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def _remove_abandoned(self) -> None:
        for left in self.path.parent.glob(self.path.name + ".*.tmp"):
            with contextlib.suppress(OSError):
                if self._now() - left.stat().st_mtime > _ABANDONED_S:
                    left.unlink()
