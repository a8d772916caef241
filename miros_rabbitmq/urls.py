"""AMQP URLs and broker addresses: building, quoting, splitting and redacting them.

Pure text; nothing here resolves a name or opens a socket. The URL form is the one of
https://www.rabbitmq.com/docs/uri-spec, which pika reads.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from .exceptions import SettingsError

DEFAULT_PORT = 5672
"""The AMQP port that IANA assigned."""

DEFAULT_TLS_PORT = 5671
"""The AMQPS port that IANA assigned."""


_SHORT_TEXT_BYTES = 255
"""The longest short string of AMQP: one byte says its length."""


class Address(NamedTuple):
    """Where a broker listens: a host name or IPv4 address, and a TCP port."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class AmqpUrl(str):
    """An AMQP URL that shows its password only to those who use it as a string.

    It *is* the URL, ready for pika or for another publisher; its ``repr`` (and so the ``repr``
    of every list, log argument or dataclass that holds it) has ``***`` for the password.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self.redacted}>"

    @property
    def redacted(self) -> str:
        """The URL as it may be logged."""
        return redact(self)

    @property
    def address(self) -> Address:
        """Host and port of the broker."""
        parts = urlsplit(self)
        default = DEFAULT_TLS_PORT if parts.scheme == "amqps" else DEFAULT_PORT
        return Address(unquote(parts.hostname or ""), parts.port or default)


def amqp_url(
    user: str, password: str, address: Address, vhost: str = "/", *, tls: bool = False
) -> AmqpUrl:
    """Build the URL of a broker, every part quoted."""
    scheme = "amqps" if tls else "amqp"
    user, password, vhost = (quote(part, safe="") for part in (user, password, vhost))
    return AmqpUrl(f"{scheme}://{user}:{password}@{address}/{vhost}")


def redact(url: str) -> str:
    """Replace the password of a URL by ``***``."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***" if "@" in url else url
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}:***@{place}" if colon else url


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Split ``host`` or ``host:port``.

    Args:
        text: a host name or an IPv4 address, with or without a port.
        default_port: the port to take if the text has none.

    Raises:
        SettingsError: the text is neither form.
    """
    if not isinstance(text, str) or not text.strip():
        raise SettingsError(f"a broker address is 'host' or 'host:port', not {text!r}")
    host, colon, port_text = text.strip().partition(":")
    digits = port_text if colon else str(default_port)
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
    is_host = host.isprintable() and not any(mark in host for mark in "/@ ?#%\\")
    if not host or not 0 < port < 65536 or not is_host:
        raise SettingsError(
            "a broker address is 'host' or 'host:port' with a port of 1 to 65535, "
            f"not {redact(text)!r}"
        )
    return Address(host, port)


def check_short_text(name: str, value: object) -> None:
    """Check what AMQP calls a short string, such as a routing key or the name of an exchange.

    Raises:
        SettingsError: it is not a text, is empty, or is too long; the message names the argument.
    """
    require_text(name, value)
    try:
        size = len(str(value).encode())
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name} cannot be written in UTF-8: {error.reason}") from None
    if size > _SHORT_TEXT_BYTES:
        raise SettingsError(f"{name} has more than the {_SHORT_TEXT_BYTES} bytes that AMQP allows")


def require_text(name: str, value: object) -> None:
    """Check that an argument is a text that is not empty.

    Raises:
        SettingsError: it is not; the message names the argument.
    """
    if not isinstance(value, str):
        raise SettingsError(f"{name} must be a text, not a {type(value).__name__}")
    if not value:
        raise SettingsError(f"{name} must not be an empty text")
