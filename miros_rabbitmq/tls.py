"""TLS for every broker of a system, as the environment describes it.

Three variables are read when a chart or a `RabbitScout` is given no ``tls``, and when a publisher
or consumer that is used alone is given none for an ``amqps`` URL::

    RABBIT_TLS_CAFILE     the authorities whose brokers are trusted, in PEM; turns TLS on
    RABBIT_TLS_CERTFILE   this node's own certificate, if brokers ask for one, in PEM
    RABBIT_TLS_KEYFILE    its private key, without a passphrase; default the file of the certificate

Brokers are verified, and their host names too. A variable that is set but cannot be used, be it
empty, is an error, and so is one with a name like these that is none of them: connections never
fall back to plain TCP because of it.
"""

from __future__ import annotations

import difflib
import logging
import os
import ssl
import weakref
from collections.abc import Mapping
from pathlib import Path

from .exceptions import SettingsError
from .foreign import in_words
from .resources import shortage
from .small_file import UnfitFile, require_plain_file

logger: logging.Logger = logging.getLogger(__name__)

CAFILE = "RABBIT_TLS_CAFILE"
CERTFILE = "RABBIT_TLS_CERTFILE"
KEYFILE = "RABBIT_TLS_KEYFILE"

_NAMES = (CAFILE, CERTFILE, KEYFILE)
_PREFIX = "RABBIT_TLS"

_NEAR = 0.85
"""How alike two names are, for `difflib`, of which one may be meant for the other."""

_made: weakref.WeakValueDictionary[tuple[object, ...], ssl.SSLContext] = (
    weakref.WeakValueDictionary()
)
"""The contexts that were made and are in use, by the files that they were made of."""

_told: set[str] = set()
"""The names of which this process has warned."""

_MOST_BYTES = 16 * 1024 * 1024
"""The largest file that is given to OpenSSL; all authorities of a Linux system take 0.3 MB."""


def tls_from_environment(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext | None:
    """Make a context from the environment's variables; `None` if none is set.

    Args:
        environment: where the variables are looked for.

    Raises:
        SettingsError: a variable is empty or unknown, or lacks another that it needs; or a file
            cannot be read or used.
    """
    _refuse_unknown(environment)
    authorities, own, key = (_file(name, environment) for name in _NAMES)
    if authorities is None:
        _tell_of_near_names(environment)
        if own is not None or key is not None:
            raise SettingsError(f"{CERTFILE} and {KEYFILE} need {CAFILE}, which turns TLS on")
        return None
    if own is None and key is not None:
        raise SettingsError(f"{KEYFILE} is set, and {CERTFILE} is not: a key needs its certificate")
    files = tuple(_state_of(one) for one in (authorities, own, key))
    context = _made.get(files)
    if context is None:
        context = _made[files] = _make(authorities, own, key)
    return context


def _state_of(file: str | None) -> tuple[object, ...]:
    """What differs if a file is another one, or was changed."""
    if file is None:
        return ()
    try:
        state = Path(file).stat()
    except OSError:  # it has gone just now: who reads it says so
        return (object(),)
    return str(Path(file).absolute()), state.st_ino, state.st_size, state.st_mtime_ns


def _make(authorities: str, own: str | None, key: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:  # ssl.SSLError is one
        if (short := shortage(error)) is not None:
            raise short from error
        raise SettingsError(f"{CAFILE}={authorities} cannot be used: {_why(error)}") from error
    if own is not None:
        try:
            # OpenSSL would ask for a passphrase on the terminal, and wait.
            context.load_cert_chain(own, key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            if (short := shortage(error)) is not None:
                raise short from error
            raise SettingsError(
                f"{CERTFILE}={own} with its key cannot be used: {_why(error)}"
            ) from error
    return context


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse a misspelled name: whoever has set it takes the connections for encrypted."""
    for name in environment:
        if name.upper().startswith(_PREFIX) and name not in _NAMES:
            near = difflib.get_close_matches(name.upper(), _NAMES, 1)
            guess = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(
                f"the environment has {name}, which is no setting{guess}; for TLS there are "
                f"{', '.join(_NAMES)}. Rename it, unset it, or give tls= to the constructor"
            )


def _tell_of_near_names(environment: Mapping[str, str]) -> None:
    """Warn once of each name that is nearly one of ours; it may be another program's."""
    for name in environment:
        if "RAB" not in name.upper() or name in _NAMES or name in _told:
            continue
        near = difflib.get_close_matches(name.upper(), _NAMES, 1, _NEAR)
        if near:
            _told.add(name)
            logger.warning(
                "connections are without TLS: the environment has %s, which is not read here; if "
                "it is meant for this program, call it %s",
                in_words(name),
                near[0],
            )


def _file(name: str, environment: Mapping[str, str]) -> str | None:
    """The file that a variable names; `None` if it is not set."""
    value = environment.get(name)
    if value is None:
        return None
    if not value.strip():
        raise SettingsError(
            f"{name} is set, but empty: give it the path of a PEM file, or unset it "
            f"(unset {name}) for connections without TLS"
        )
    try:
        require_plain_file(Path(value), _MOST_BYTES)  # OpenSSL would wait at a FIFO
    except (OSError, ValueError) as error:
        if (short := shortage(error)) is not None:
            raise short from error
        why = f"as {error}" if isinstance(error, UnfitFile) else _why(error)
        raise SettingsError(f"{name}={value} cannot be used: {why}") from error
    return value


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
