"""The keys of a network, and what is derived from them: the id of a key, and the key of an epoch.

HKDF with SHA-256 (RFC 5869) derives both from the 32 bytes of a Fernet key::

    key of an epoch     32 bytes    salt: the epoch     info: label, format, purpose, network
    id of a key          4 bytes    no salt             info: label, format, 0

The label is ``miros-rabbitmq`` and a zero byte, format and purpose are a byte each, and the network
is UTF-8 after a byte with its length. So no two different inputs have the same info. An id tells a
receiver in a moment that it does not have the key of a message; it reveals no more than that two
messages were encrypted with the same key.
"""

from __future__ import annotations

import base64

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .envelope import Purpose
from .keys import Keys, check_keys
from .message import FORMAT, KEY_ID_BYTES

_LABEL = b"miros-rabbitmq\0"
_EPOCH_KEY_BYTES = 32
_FOR_IDS = 0
"""In place of a purpose, in the info of ids."""


class RootKey:
    """One Fernet key, from which everything is derived.

    Args:
        fernet_key: as `keys.check_keys` returns it.
    """

    def __init__(self, fernet_key: bytes) -> None:
        self._secret = base64.urlsafe_b64decode(fernet_key)
        self.id: bytes = _derive(self._secret, None, bytes((FORMAT, _FOR_IDS)), KEY_ID_BYTES)
        """Tells keys apart, in clear."""

    def cipher(self, epoch: bytes, purpose: Purpose, network: str) -> AESGCM:
        """Return the cipher of an epoch: AES-256-GCM (NIST SP 800-38D)."""
        name = network.encode()
        info = bytes((FORMAT, purpose, len(name))) + name
        return AESGCM(_derive(self._secret, epoch, info, _EPOCH_KEY_BYTES))


def _derive(secret: bytes, salt: bytes | None, info: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt, _LABEL + info).derive(secret)


class KeyRing:
    """The keys of a network: the first encrypts, all decrypt. Immutable.

    Args:
        keys: a Fernet key, or a list of them.

    Raises:
        MalformedKey: a key is not a Fernet key, or the list is empty.
    """

    def __init__(self, keys: Keys) -> None:
        roots = [RootKey(key) for key in check_keys("keys", keys)]
        self.first: RootKey = roots[0]
        self._by_id: dict[bytes, tuple[RootKey, ...]] = {}
        for root in roots:
            self._by_id[root.id] = (*self._by_id.get(root.id, ()), root)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys in hexadecimal, that of the first one first."""
        return tuple(key_id.hex() for key_id in self._by_id)

    def with_id(self, key_id: bytes) -> tuple[RootKey, ...]:
        """Return the keys with an id: none, or one, and by a rare chance more."""
        return self._by_id.get(key_id, ())
