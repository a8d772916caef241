"""How bodies become bytes, and with which keys: what all senders and receivers of a network share.

A `Codec` numbers nothing. Whoever publishes has a `sealer.Sealer` with an epoch and numbers of its
own, and whoever consumes an `opener.Opener`; so any number of them may share one codec.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ..exceptions import MessageRejected, PayloadRefused, RejectReason, SettingsError
from ..interruption import calls_out
from ..resources import shortage
from ..wording import a_value_of
from .keyring import KeyRing
from .keys import Keys
from .pickling import ClassRefused, OpcodeRefused, RestrictedPickle

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


class Codec:
    """Serializes bodies and restores them, and has the keys to encrypt them with.

    May be used from any thread, if that holds for the functions that it is given.

    Args:
        keys: a Fernet key, or a list of them: the first encrypts, all decrypt.
        serializer: turns plain data into bytes; default is restricted pickle, protocol 3.
        deserializer: its inverse; it may return a list where the serializer got a tuple.
        allowed_classes: the user's own classes that the default serializer takes.
        max_bytes: the size of the largest message with one body that is sent or accepted.
        max_age_s: the age of the oldest body that is accepted, in seconds between the sender's
            clock and this one; by default a body may have any age.
        now: the wall clock, in seconds since 1970.

    Raises:
        MalformedKey: a key is not a Fernet key, or the list is empty.
        SettingsError: an allowed class is defined inside another or inside a function, or another
            argument has a value that cannot work.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        allowed_classes: Sequence[type] = (),
        max_bytes: int = 1024 * 1024,
        max_age_s: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        if max_age_s is not None and not max_age_s > 0:  # also if it is no number (NaN)
            raise SettingsError(f"max_age_s must be above 0, or None, not {max_age_s!r}")
        restricted = RestrictedPickle(allowed_classes)
        self.keyring: KeyRing = KeyRing(keys)
        """The present keys; replaced as a whole when they change."""
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self.now = now
        self._serialize = restricted.dumps if serializer is None else serializer
        self._deserialize = restricted.loads if deserializer is None else deserializer

    def change_keys(self, keys: Keys) -> None:
        """Encrypt with the first of these keys from now on, and decrypt with all of them.

        A message that another thread encrypts or decrypts meanwhile uses either the old keys or the
        new ones.

        Args:
            keys: a Fernet key, or a list of them.

        Raises:
            MalformedKey: a key is not a Fernet key, or the list is empty; the old keys stay.
        """
        self.keyring = KeyRing(keys)

    @calls_out
    def serialize(self, body: Any) -> bytes:
        """Turn a body into bytes.

        Args:
            body: plain data, or what the codec's own serializer takes.

        Raises:
            PayloadRefused: it cannot be serialized. The text says what to do, and begins with a
                verb: the caller puts the name of the event before it.
            OutOfResources: there is no memory for it.
        """
        try:
            plain = self._serialize(body)
            if isinstance(plain, str):
                plain = plain.encode()
        except Exception as error:
            if (short := shortage(error)) is not None:
                raise short from error
            raise PayloadRefused(f"cannot be serialized: {error}") from error
        if not isinstance(plain, bytes):
            made = a_value_of(plain)
            raise PayloadRefused(f"cannot be serialized: the serializer made {made}, not bytes")
        return plain

    def deserialize(self, plain: bytes) -> Any:
        """Restore a body from authentic bytes.

        Args:
            plain: what `serialize` has made.

        Raises:
            MessageRejected: the deserializer refuses them.
        """
        try:
            return self._deserialize(plain)
        except Exception as error:
            # Only the type of a foreign error is told: its text may quote what was decrypted.
            detail = f"{type(error).__name__}: has its sender another serializer than this node?"
            if isinstance(error, (ClassRefused, OpcodeRefused)):
                detail = str(error)
            elif (short := shortage(error)) is not None:
                detail = str(short)  # not tried again: it may be the message that takes so much
            raise MessageRejected(RejectReason.NOT_DESERIALIZABLE, detail) from error
