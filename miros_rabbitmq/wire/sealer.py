"""The sender's half of the wire: numbers and encrypts what one start of a sender publishes.

A sealer belongs to one publisher of one network, from its start until it stops, and to one process.
It is made with a random epoch; a fork gives the child another. No two records are ever encrypted
with the same key and nonce, because

- the key follows from the epoch (`keyring`), and events and notices have different keys;
- the outer number, which is a part of the nonce, is claimed before a record is encrypted, and never
  again in this epoch, whatever happens to the record. To claim is to call ``next`` on a counter,
  which is one step for a Python with a global interpreter lock: no thread and no handler of a
  signal can come in between;
- a start belongs to one process: a child that finds itself with its parent's draws another;
- for two clones of a running machine, which have the same epoch and numbers, the other part of the
  nonce is drawn at random for each record.

The sequence number, which is encrypted, has another job: receivers tell by it what is new, and what
is missing. It counts what goes by one routing key, and is claimed only when the record is accepted,
so that a refused one leaves no gap.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..exceptions import PayloadRefused
from ..process import Stage, disown_in_child
from ..resources import shortage
from .codec import Codec
from .envelope import Purpose
from .keyring import KeyRing
from .message import (
    EPOCH_BYTES,
    HEADER_BYTES,
    OUTER_BYTES,
    RANDOM_BYTES,
    RECORD_OVERHEAD,
    Header,
    pack_record,
)
from .record import name_bytes, pack, padded_size


class Heading(NamedTuple):
    """What the records of one message have in common."""

    routing_key: str
    prefix: bytes
    """What the message begins with."""


class Record(NamedTuple):
    """Something to publish, as bytes; records of the same heading may share a message."""

    heading: Heading
    data: bytes


def address_bytes(header: bytes, exchange: str, routing_key: str) -> bytes:
    """Return what is authenticated with a record, but not encrypted (the nonce is, anyway)."""
    name = exchange.encode()
    return header + bytes((len(name),)) + name + routing_key.encode()


class _EpochKey(NamedTuple):
    """The key of an epoch and purpose, and the header of all messages with it."""

    keyring: KeyRing
    prefix: bytes
    cipher: AESGCM


class _Seal(NamedTuple):
    """How the records of one purpose and routing key are encrypted."""

    key: _EpochKey
    heading: Heading
    address: bytes


class _Line:
    """What has one numbering: the records of one purpose and routing key, in one start."""

    __slots__ = ("guess", "numbers", "seal", "stream")

    def __init__(self, stream: _Stream, seal: _Seal) -> None:
        self.stream: _Stream = stream
        self.numbers: itertools.count[int] = itertools.count(1)
        self.guess: int = 1
        """The number that comes next, unless somebody claims one meanwhile."""
        self.seal: _Seal = seal


class _Stream:
    """The records of one purpose, in one start."""

    def __init__(self, epoch: bytes, purpose: Purpose, network: str, keyring: KeyRing) -> None:
        self.outer: itertools.count[int] = itertools.count(1)
        self.lines: dict[str, _Line] = {}
        self._epoch = epoch
        self.purpose = purpose
        self._network = network
        self._key = self._derive(keyring)

    def line(self, routing_key: str, keyring: KeyRing) -> _Line:
        """The line of a routing key, to be encrypted with the first of these keys."""
        line = self.lines.get(routing_key)
        if line is None:
            line = self.lines.setdefault(routing_key, _Line(self, self._seal(routing_key, keyring)))
        if line.seal.key.keyring is not keyring:
            line.seal = self._seal(routing_key, keyring)
        return line

    def _seal(self, routing_key: str, keyring: KeyRing) -> _Seal:
        key = self._key
        if key.keyring is not keyring:
            key = self._key = self._derive(keyring)
        address = address_bytes(key.prefix, self._network, routing_key)
        return _Seal(key, Heading(routing_key, key.prefix), address)

    def _derive(self, keyring: KeyRing) -> _EpochKey:
        prefix = Header(self.purpose, keyring.first.id, self._epoch).pack()
        cipher = keyring.first.cipher(self._epoch, self.purpose, self._network)
        return _EpochKey(keyring, prefix, cipher)


class _Start:
    """An epoch, and everything that is counted in it."""

    def __init__(self, epoch: bytes, network: str, keyring: KeyRing) -> None:
        self.pid = os.getpid()
        self.epoch = epoch
        self.streams = {purpose: _Stream(epoch, purpose, network, keyring) for purpose in Purpose}


class Draft(NamedTuple):
    """A record that is encrypted, and not accepted yet."""

    record: Record
    sequence: int
    kind: int
    body: bytes
    line: _Line


@dataclass
class Left:
    """What was posted while somebody else was posting, and is left to that one; see `turns`."""

    draft: Draft
    record: Record | None = None
    """The same with its number. Receivers know it again, if an exception interrupts its posting and
    it is posted once more."""


class Sealer:
    """Seals what one sender publishes on one network.

    Every method may be called from any thread, and in the handler of a signal. Records are in order
    if their owner holds a lock from `seal` until they are on their way.

    Args:
        codec: has the keys, and says how large a message may be.
        network: the exchange.
        name: the sender's name; travels encrypted.
        now: the wall clock, in seconds since 1970; default is that of the codec.
        random: returns so many random bytes; another is only for reproducible examples.
    """

    def __init__(
        self,
        codec: Codec,
        network: str,
        name: str,
        *,
        now: Callable[[], float] | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._codec = codec
        self._network = network
        self._name = name_bytes(name)
        self._now = now or codec.now
        self._random = random
        self._start = self._new_start()
        disown_in_child(self, Stage.NETWORKS)

    @property
    def epoch(self) -> bytes:
        """The sender's start on this network; travels in clear, and says nothing of the sender."""
        return self._start.epoch

    def last_numbers(self) -> dict[str, int]:
        """The number of the last event by each routing key.

        Events that another thread is committing at this moment may be left out.
        """
        lines = self._start.streams[Purpose.EVENTS].lines
        # A copy, as another thread may add a routing key meanwhile.
        return {key: line.guess - 1 for key, line in list(lines.items()) if line.guess > 1}

    def seal(
        self, kind: int, body: bytes, routing_key: str, purpose: Purpose = Purpose.EVENTS
    ) -> Draft:
        """Encrypt a body, with the number that is likely to be its own.

        Args:
            kind: of the body: an `envelope.Kind`, or a `notice.NoticeKind`.
            body: the serialized body.
            routing_key: where it goes; it is authenticated, too.
            purpose: events, or notices.

        Raises:
            PayloadRefused: it is too large; no number was claimed.
            OutOfResources: there is no memory for it.
        """
        size = HEADER_BYTES + RECORD_OVERHEAD + padded_size(self._name, body)
        if size > self._codec.max_bytes:
            raise PayloadRefused(
                f"is {size:,} bytes encrypted, more than the {self._codec.max_bytes:,} of "
                "Limits.event_bytes: send less at once, or raise the limit on every node"
            )
        start = self._start
        if start.pid != os.getpid():  # a fork whose hooks have not run, or were interrupted
            start = self._start = self._new_start()
        line = start.streams[purpose].line(routing_key, self._codec.keyring)
        sequence = line.guess
        return Draft(self._encrypt(line, kind, sequence, body), sequence, kind, body, line)

    def commit(self, draft: Draft) -> Record | None:
        """Claim a sequence number for what was sealed.

        Returns:
            the record to send. `None` if it may not be sent, because the process has forked since
            it was sealed: seal it again.
        """
        line = draft.line
        sequence = next(line.numbers)
        line.guess = sequence + 1
        record = draft.record
        if sequence != draft.sequence:  # somebody else has claimed that number meanwhile
            record = self._encrypt(line, draft.kind, sequence, draft.body)
        start = self._start
        is_ours = line.stream is start.streams[line.stream.purpose] and start.pid == os.getpid()
        return record if is_ours else None

    def _encrypt(self, line: _Line, kind: int, sequence: int, body: bytes) -> Record:
        seal = line.seal
        try:
            plain = pack(kind, self._name, max(0, int(self._now() * 1000)), sequence, body)
            # At its end, the outer number no longer fits and raises, so that it never begins anew.
            outer = next(line.stream.outer).to_bytes(OUTER_BYTES, "big")
            nonce = outer + self._random(RANDOM_BYTES)
            sealed = seal.key.cipher.encrypt(nonce, plain, seal.address)
            return Record(seal.heading, pack_record(nonce, sealed))
        except MemoryError as error:
            raise shortage(error) or error from error

    def _new_start(self) -> _Start:
        return _Start(self._random(EPOCH_BYTES), self._network, self._codec.keyring)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied: a copy would go on with the same numbers."""
        raise TypeError("a Sealer cannot be copied: make another for each publisher")

    def disown(self) -> None:
        """Become another start in a forked child: the parent goes on with the old numbers."""
        self._start = self._new_start()
