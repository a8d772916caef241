"""Turns envelopes into bytes and back: serialize and encrypt; decrypt and check.

The codec does no I/O. It reads the clock that it is given, and Fernet writes the time into each
token. A message has this form:

    message   one or more tokens, one a line
    token     Fernet (https://github.com/fernet/spec/blob/master/Spec.md), which is base64 text
    in it     the serialized envelope: (version, network, sender, epoch, sequence, body)

The body of an event is ``(signal name, payload)``; the body of a snoop is the line. Signal
*numbers* never travel, as they differ from process to process. Sequence numbers count from 1. An
envelope with the number 0 is outside of the sequence: it is a notice, in which the sender says
something about itself (`announcement`). Only a network that checks notices takes any.

A receipt has a fixed order: size, authenticity, age, deserialization, shape, network, body. Bytes
that fail authentication reach no deserializer.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..exceptions import MessageRejected, PayloadRefused, RejectReason
from .envelope import NOTICE, Envelope
from .keys import Keys, check_keys
from .pickling import ClassRefused, OpcodeRefused, RestrictedPickle

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]

FORMAT_VERSION = 1

_STAMP = slice(1, 9)
"""Where a decoded Fernet token has its time: 64 bits of seconds, authenticated with the rest."""

_MAX_SKEW_S = 60.0
"""How far the sender's clock may be ahead of this one: as much as Fernet allows with its ``ttl``,
and no more than ``max_age_s``."""

_MAX_NAME = 255
_MAX_SEQUENCE = 2**63 - 1


class Codec:
    """Encrypts envelopes of one network into tokens, and back.

    May be used from any thread, if that holds for the functions that it is given.

    Args:
        network: the name that goes into each envelope; an envelope with another is rejected.
        keys: a Fernet key, or a list of them: the first encrypts, all decrypt.
        serializer: turns plain data (a tuple) into bytes; default is restricted pickle, protocol 3.
        deserializer: its inverse; it may return a list where the serializer got a tuple.
        allowed_classes: the user's own classes that the default serializer takes.
        max_bytes: the size of the largest token that is sent or accepted.
        max_age_s: the age of the oldest token that is accepted, in seconds between the sender's
            clock and this one; by default a token may have any age.
        now: the wall clock, in seconds since 1970.
        check_body: returns False, or raises, if a body does not belong on this network.
        check_notice: the same for the body of a notice; without it, notices are rejected.

    Raises:
        MalformedKey: a key is not a Fernet key, or the list is empty.
        SettingsError: an allowed class is defined inside another or inside a function.
    """

    def __init__(
        self,
        network: str,
        keys: Keys,
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        allowed_classes: Sequence[type] = (),
        max_bytes: int = 1024 * 1024,
        max_age_s: float | None = None,
        now: Callable[[], float] = time.time,
        check_body: Callable[[Any], bool] | None = None,
        check_notice: Callable[[Any], bool] | None = None,
    ) -> None:
        restricted = RestrictedPickle(allowed_classes)
        self.network = network
        self.max_bytes = max_bytes
        self._serialize = serializer or restricted.dumps
        self._deserialize = deserializer or restricted.loads
        self._check_body = check_body
        self._check_notice = check_notice
        self._max_age_s = max_age_s
        self._now = now
        self._cipher = _Cipher.of(keys)

    def change_keys(self, keys: Keys) -> None:
        """Encrypt with the first of these keys from now on, and decrypt with all of them.

        An envelope that another thread encodes or decodes meanwhile uses either the old keys or
        the new ones.

        Raises:
            MalformedKey: a key is not a Fernet key, or the list is empty; the old keys stay.
        """
        self._cipher = _Cipher.of(keys)  # both functions change at once, so no lock is needed

    def encode(self, sender: str, epoch: int, sequence: int, body: Any) -> bytes:
        """Serialize and encrypt one envelope.

        Args:
            sender: the name of the chart.
            epoch: the random number of its start.
            sequence: the envelope's number in that epoch, or `NOTICE`.
            body: what this network carries, or the body of a notice.

        Raises:
            PayloadRefused: the body does not belong on this network, cannot be serialized, or is
                too large. The text says what to do, and begins with a verb: the caller puts the
                name of the event before it.
        """
        check = self._check_body if sequence != NOTICE else self._check_notice
        if check is not None and not check(body):
            raise PayloadRefused(f"is not what {self.network} carries: {_shape(body)}")
        fields = (FORMAT_VERSION, self.network, sender, epoch, sequence, body)
        try:
            plain = self._serialize(fields)
            if isinstance(plain, str):
                plain = plain.encode()
        except Exception as error:
            raise PayloadRefused(f"cannot be serialized: {error}") from error
        if not isinstance(plain, bytes):
            made = type(plain).__name__
            raise PayloadRefused(f"cannot be serialized: the serializer made a {made}, not bytes")
        token = self._cipher.encrypt(plain)
        if len(token) > self.max_bytes:
            raise PayloadRefused(
                f"is {len(token):,} bytes encrypted, more than the {self.max_bytes:,} of "
                "Limits.event_bytes: send less at once, or raise the limit on every node"
            )
        return token

    def decode(self, token: bytes) -> Envelope:
        """Authenticate, decrypt, deserialize and check one token.

        Raises:
            MessageRejected: the token fails one of these steps; ``reason`` says which.
        """
        if len(token) > self.max_bytes:
            raise MessageRejected(RejectReason.OVERSIZE, f"{len(token):,} bytes")
        plain = self._authenticate(token)
        if self._max_age_s is not None:
            self._check_age(token, self._max_age_s)
        return self._checked(self._read(plain))

    # The steps of a receipt, in their order. Each rejects a token for a reason of its own.

    def _authenticate(self, token: bytes) -> bytes:
        try:
            return self._cipher.decrypt(token)
        except (InvalidToken, ValueError, TypeError):
            raise MessageRejected(RejectReason.NOT_AUTHENTIC) from None

    def _check_age(self, token: bytes, limit_s: float) -> None:
        """Compare the time in an authentic token with the clock."""
        # Decoded by the same function that Fernet uses, so this is the time that was authenticated.
        stamp = base64.urlsafe_b64decode(token)[_STAMP]
        age_s = self._now() - int.from_bytes(stamp, "big")
        if age_s > limit_s:
            raise MessageRejected(
                RejectReason.TOO_OLD,
                f"{age_s:,.0f} s old: it was delayed or replayed, or the sender's clock is behind",
            )
        if age_s < -min(_MAX_SKEW_S, limit_s):
            raise MessageRejected(
                RejectReason.CLOCK_SKEW,
                f"the sender's clock is {-age_s:,.0f} s ahead of this one: let both follow NTP",
            )

    def _read(self, plain: bytes) -> Any:
        try:
            return self._deserialize(plain)
        except Exception as error:
            # Only the type of a foreign error is told: its text may quote what was decrypted.
            detail = type(error).__name__
            if isinstance(error, (ClassRefused, OpcodeRefused)):
                detail = str(error)
            raise MessageRejected(RejectReason.NOT_DESERIALIZABLE, detail) from error

    def _checked(self, fields: Any) -> Envelope:
        if type(fields) not in (tuple, list) or len(fields) != 6:
            raise MessageRejected(RejectReason.MALFORMED, "not six fields")
        version, network, sender, epoch, sequence, body = fields
        if type(version) is not int or version != FORMAT_VERSION:
            raise MessageRejected(RejectReason.MALFORMED, "another format version")
        if type(sender) is not str or not 0 < len(sender) <= _MAX_NAME:
            raise MessageRejected(RejectReason.MALFORMED, "no valid sender name")
        if type(epoch) is not int or not 0 <= epoch <= _MAX_SEQUENCE:
            raise MessageRejected(RejectReason.MALFORMED, "no valid epoch")
        first = 1 if self._check_notice is None else NOTICE
        if type(sequence) is not int or not first <= sequence <= _MAX_SEQUENCE:
            raise MessageRejected(RejectReason.MALFORMED, "no valid sequence number")
        if network != self.network:
            raise MessageRejected(RejectReason.WRONG_NETWORK)
        check = self._check_body if sequence != NOTICE else self._check_notice
        if check is not None and not check(body):
            raise MessageRejected(
                RejectReason.MALFORMED, "the body does not belong on this network"
            )
        return Envelope(self.network, sender, epoch, sequence, body)


class _Cipher(NamedTuple):
    """The two functions that a codec makes of its keys."""

    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]

    @classmethod
    def of(cls, keys: Keys) -> _Cipher:
        first, *others = (Fernet(key) for key in check_keys("keys", keys))
        if not others:
            return cls(first.encrypt, first.decrypt)
        return cls(first.encrypt, MultiFernet((first, *others)).decrypt)


def is_event_body(body: Any) -> bool:
    """Tell whether a body is that of an event: ``(signal name, payload)``."""
    return (
        type(body) in (tuple, list)
        and len(body) == 2
        and type(body[0]) is str
        and 0 < len(body[0]) <= _MAX_NAME
    )


def is_line_body(body: Any) -> bool:
    """Tell whether a body is a snoop line."""
    return type(body) is str


def _shape(body: Any) -> str:
    """Name the types in a body; its values are left out, as this text goes into an error."""
    if isinstance(body, (tuple, list)):
        return f"a {type(body).__name__} of {', '.join(type(item).__name__ for item in body)}"
    return f"a {type(body).__name__}"
