"""Encryption keys: the form that they must have, and the error that tells a user what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from cryptography.fernet import Fernet

from ..exceptions import MalformedKey

Key = bytes | str
"""A Fernet key, as ``Fernet.generate_key()`` makes it."""

Keys = Key | Sequence[Key]
"""One key, or a list of them: the first encrypts, all decrypt."""

_KEY_FORM = re.compile("[A-Za-z0-9_+/-]{43}=")


def check_keys(name: str, keys: Keys) -> tuple[bytes, ...]:
    """Check one Fernet key or a list of them; may be called from any thread.

    Args:
        name: what the user calls this argument, for the error.
        keys: the key or keys.

    Returns:
        The keys as bytes, in their order.

    Raises:
        MalformedKey: a key is not a Fernet key, or the list is empty. The text has the argument's
            name and the remedy, and never the key.
    """
    # Anything that is neither a key nor a list is taken for a key here, and refused below.
    listed = cast("Sequence[Key]", keys if isinstance(keys, (list, tuple)) else [keys])
    if not listed:
        raise MalformedKey(f"{name} is an empty list: give at least one key")
    checked = []
    for key in listed:
        try:
            Fernet(key)
            # Python's base64 skips characters outside of its alphabet, and all after the padding.
            text = key if isinstance(key, str) else bytes(key).decode("ascii")
            if not _KEY_FORM.fullmatch(text.strip()):
                raise ValueError
        except (ValueError, TypeError, AttributeError):
            raise MalformedKey(
                f"{name} is not a Fernet key (32 bytes in url-safe base64): make one with "
                "cryptography.fernet.Fernet.generate_key() and give every program the same"
            ) from None
        checked.append(key.encode() if isinstance(key, str) else bytes(key))
    return tuple(checked)
