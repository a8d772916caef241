"""TLS for every broker of a system, as the environment describes it.

Three variables are read when a constructor is given no ``tls``::

    RABBIT_TLS_CAFILE     the authorities whose brokers are trusted, in PEM; turns TLS on
    RABBIT_TLS_CERTFILE   this node's own certificate, if brokers ask for one, in PEM
    RABBIT_TLS_KEYFILE    its private key, without a passphrase; default the file of the certificate

Brokers are verified, and their host names too. A variable that is set but cannot be used is an
error: connections never fall back to plain TCP because of it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from ..exceptions import SettingsError
from ..resources import shortage

CAFILE = "RABBIT_TLS_CAFILE"
CERTFILE = "RABBIT_TLS_CERTFILE"
KEYFILE = "RABBIT_TLS_KEYFILE"


def tls_from_environment(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext | None:
    """Make a context from the environment's variables; `None` if none is set.

    Raises:
        SettingsError: a file cannot be read or used, or a variable lacks another that it needs.
    """
    authorities, own, key = (environment.get(name) or None for name in (CAFILE, CERTFILE, KEYFILE))
    if authorities is None:
        if own is not None or key is not None:
            raise SettingsError(f"{CERTFILE} and {KEYFILE} need {CAFILE}, which turns TLS on")
        return None
    if own is None and key is not None:
        raise SettingsError(f"{KEYFILE} is set, and {CERTFILE} is not: a key needs its certificate")
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


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
