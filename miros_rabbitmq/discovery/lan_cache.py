"""The cache of the brokers that were found on the LAN, so that the next start finds them at once.

The file ``.miros_rabbitmq_lan_cache.json`` in the working directory holds addresses and the time,
and nothing else. It is a hint: its reader verifies the addresses. It is replaced as a whole.
So several processes may share it, nobody ever reads half of it, and no crash leaves it locked. A
file that cannot be read counts as missing, and is replaced. So does one that somebody else can
have written (see `small_file`): the hosts in it get the password before they are verified.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ..exceptions import SettingsError
from ..small_file import UnfitFile, read_small_file
from ..urls import Address, parse_address

logger: logging.Logger = logging.getLogger(__name__)

CACHE_FILE_NAME = ".miros_rabbitmq_lan_cache.json"

MAX_ADDRESSES = 1_024
"""How many addresses are read or written at most: as many as a /22 has."""

_MAX_BYTES = 64 * 1024
"""More than the largest cache has; a larger file is something else."""

_REWRITE_SHARE = 1 / 4
"""A cache whose addresses are still right is written again only when this share of its validity has
passed: the disk may be an SD card, which wears out."""

_ABANDONED_S = 60.0
"""A half-written file of this age was left by a process that died while it wrote."""


class MalformedCache(ValueError):
    """The content of a file is that of no cache."""


class CachedAddresses(NamedTuple):
    """The contents of a cache."""

    addresses: tuple[Address, ...]
    age_s: float
    """Seconds since the cache was written."""


class LanCache:
    """One cache file. For one thread; any number of processes may use the same file.

    Args:
        path: the file.
        valid_s: for how many seconds its contents are used; with 0 it is neither read nor written.
        now: returns the time of the wall clock, in seconds since 1970.
    """

    def __init__(self, path: Path, valid_s: float, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._valid_s = valid_s
        self._now = now
        self._written: tuple[frozenset[Address], float] | None = None
        self._complained = False

    def load(self) -> CachedAddresses | None:
        """Return the contents of the cache; `None` if it is too old, broken or missing."""
        if not self._valid_s:
            return None
        try:
            cached = parse_cache(read_small_file(self.path, _MAX_BYTES), self._now())
        except FileNotFoundError:
            return None
        except UnfitFile as error:
            logger.warning("the cache %s is ignored, as %s", self.path, error)
            return None
        except (OSError, MalformedCache) as error:
            logger.info("the cache %s cannot be read (%s) and is ignored", self.path, error)
            return None
        # A cache of the future was written by a clock that ran ahead of this one.
        return cached if 0 <= cached.age_s <= self._valid_s else None

    def save(self, addresses: Iterable[Address]) -> None:
        """Write the addresses, unless this object wrote the same ones not long ago."""
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

    def _replace(self, content: str) -> None:
        folder = self.path.parent
        self._remove_abandoned()
        draft = folder / f"{self.path.name}.{secrets.token_hex(8)}.tmp"
        # Not by `tempfile`, which loads half a megabyte of modules.
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(content)
            draft.replace(self.path)  # atomic, since both are in one folder
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def _remove_abandoned(self) -> None:
        for left in self.path.parent.glob(self.path.name + ".*.tmp"):
            with contextlib.suppress(OSError):
                status = left.lstat()  # a link is not followed
                is_file = stat.S_ISREG(status.st_mode)
                if is_file and self._now() - status.st_mtime > _ABANDONED_S:
                    left.unlink()


def parse_cache(content: bytes, now_s: float) -> CachedAddresses:
    """Read the content of a cache, in whatever age it has.

    Args:
        content: the bytes of the file.
        now_s: the time of the wall clock, in seconds since 1970.

    Raises:
        MalformedCache: it is none.
    """
    try:
        fields = json.loads(content)
        written_s = float(fields["time"])
        if not math.isfinite(written_s):
            raise ValueError("its time is not a finite number")
        texts = fields["addresses"][:MAX_ADDRESSES]
        addresses = []
        for one in texts:
            try:
                addresses.append(parse_address(one))
            except SettingsError as error:
                logger.info("an address in the cache is ignored: %s", error)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise MalformedCache(str(error)) from error
    return CachedAddresses(tuple(dict.fromkeys(addresses)), now_s - written_s)
