"""AMQP URLs and broker addresses: building, quoting, splitting and redacting them.

Every text from outside becomes an `Address` here, by `parse_address` or `AmqpUrl.address`, with its
host in normal form. Pure text; nothing here resolves a name or opens a socket. The URL form is the
one of https://www.rabbitmq.com/docs/uri-spec, which pika reads.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from .exceptions import SettingsError
from .host_names import NotAHost, normal_host
from .wording import a_value_of

DEFAULT_PORT = 5672
"""The AMQP port that IANA assigned."""

DEFAULT_TLS_PORT = 5671
"""The AMQPS port that IANA assigned."""


_GUEST = "guest"
"""User and password of a URL without any, as for pika."""

_SHORT_TEXT_BYTES = 255
"""The longest short string of AMQP: one byte says its length."""

_URL = re.compile(r"(amqps?)://(?:([^/?#]*)@)?([^/?#@]*)(/[^?#]*)?(\?[^#]*)?", re.DOTALL)
"""Scheme, user and password, host and port, path, query. The standard library's own parser quotes
the URL, with the password, in its errors."""

_LONGEST_SHOWN = 300
"""How many characters of a text that is no address are shown: more than any address has."""

_SCHEME = re.compile(r"[A-Za-z0-9+.-]+")

_ODD_AT_SIGNS = re.compile("[\uff20\ufe6b]|%40")
_COLONS = re.compile("[:\uff1a\ufe13\ufe55]")
"""What a keyboard or a page may make of the two signs, or somebody who quotes a whole URL."""

_PLACE = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[^:]*)(?::[0-9]{0,5})?(?:[/?#]|$)", re.ASCII
)
"""Where a broker is: without an @ before it, what follows its colon is a port or a password."""

_IPV6_LIKE = re.compile(r"[0-9A-Fa-f:.\[\]]+(?:%[\w.-]*)?\]?[0-9:]*", re.ASCII)
"""An IPv6 address, perhaps with a mistake: its colons are no sign of a password."""


class Address(NamedTuple):
    """Where a broker listens: a host name or IP address, and a TCP port.

    Addresses are compared as they are written. Those that this package gives you, such as
    `AmqpUrl.address`, have their host in normal form.
    """

    host: str
    """The name or IP address; an IPv6 address without brackets."""
    port: int = DEFAULT_PORT
    """The TCP port."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def tls_name(self) -> str:
        """The host as a certificate names it."""
        return self.host.partition("%")[0]


@dataclass(frozen=True)
class UrlParts:
    """What an AMQP URL says, unquoted. Its ``repr`` has no password."""

    tls: bool
    user: str
    password: str = field(repr=False)
    address: Address
    vhost: str
    query: str
    """With its question mark, as it stands in the URL; empty for none."""


class AmqpUrl(str):
    """An AMQP URL that shows its password only to those who use it as a string.

    It *is* the URL, ready for pika or for another publisher; its ``repr`` (and so the ``repr``
    of every list, log argument or dataclass that holds it) has ``***`` for the password.

    Args:
        url: the URL, as in ``amqp://user:password@host:5672/%2F``.

    Raises:
        SettingsError: it is made of something else than a text.
    """

    __slots__ = ()

    def __new__(cls, url: str = "") -> AmqpUrl:
        """See the class."""
        if not isinstance(url, str):  # it may hold a password, too
            raise SettingsError(f"{a_value_of(url)} is not an AMQP URL, which is a text")
        return super().__new__(cls, url)

    def __repr__(self) -> str:
        return f"<{self.redacted}>"

    @property
    def redacted(self) -> str:
        """The URL as it may be logged."""
        return redact(self)

    @property
    def parts(self) -> UrlParts:
        """What the URL says.

        Raises:
            SettingsError: it is not an AMQP URL. The message has no password.
        """
        found = _split(str(self))
        if isinstance(found, str):
            # No error of the standard library is behind this one: it would quote the password.
            raise SettingsError(f"{self!r} is not an AMQP URL: {found}")
        return found

    @property
    def address(self) -> Address:
        """Host and port of the broker.

        Raises:
            SettingsError: it is not an AMQP URL.
        """
        return self.parts.address


def amqp_url(
    user: str, password: str, address: Address, vhost: str = "/", *, tls: bool = False
) -> AmqpUrl:
    """Build the URL of a broker, every part quoted."""
    scheme = "amqps" if tls else "amqp"
    user, password, vhost = (quote(part, safe="") for part in (user, password, vhost))
    place = quote(str(address), safe="[]:")
    return AmqpUrl(f"{scheme}://{user}:{password}@{place}/{vhost}")


def redact(url: str) -> str:
    """Replace the password of a URL by ``***``, also where somebody wrote the URL wrongly."""
    scheme, separator, rest = url.partition("://")
    at = url.rfind("@")
    has_odd_at = _ODD_AT_SIGNS.search(url) is not None
    if not separator or not _SCHEME.fullmatch(scheme.strip()):
        return "***" if at >= 0 or has_odd_at else _without_login(url)
    login_at = len(scheme) + len(separator)
    if at < login_at and has_odd_at:
        return f"{scheme}://***"
    if at < login_at:
        return f"{scheme}://{_without_login(rest)}"
    colon = _COLONS.search(url, login_at, at)
    return url if colon is None else f"{url[: colon.start()]}:***{url[at:]}"


def _without_login(text: str) -> str:
    """Hide what follows the first colon of a text without an @, unless it is a port."""
    colon = _COLONS.search(text)
    if colon is None or _PLACE.match(text) or _IPV6_LIKE.fullmatch(text):
        return text
    return f"{text[: colon.start()]}:***"


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Split ``host`` or ``host:port``, and write the host in the one way that is compared.

    Args:
        text: a host name or an IP address, with or without a port. An IPv6 address with a port is
            in brackets, as in ``[::1]:5672``.
        default_port: the port to take if the text has none.

    Raises:
        SettingsError: the text is neither form.
    """
    if not isinstance(text, str):
        shown = repr(text) if isinstance(text, (int, float, type(None))) else type(text).__name__
        raise SettingsError(f"a broker address is 'host' or 'host:port', not {shown}")
    found = _NO_URL if "://" in text or "@" in text else _place(text.strip(), default_port)
    if isinstance(found, str):
        shown = redact(text)
        if len(shown) > _LONGEST_SHOWN:
            shown = shown[:_LONGEST_SHOWN] + "..."
        raise SettingsError(f"a broker address is 'host' or 'host:port', not {shown!r}: {found}")
    return found


_NO_URL = "leave out amqp://, the user, the password and the vhost: other arguments take them"


def address_texts(addresses: object, default_port: int = DEFAULT_PORT) -> tuple[str, ...]:
    """Check what a user gives as ``addresses=``, and return each text once.

    Args:
        addresses: a list, or another iterable, of texts; it is read once.
        default_port: the port of a text that has none.

    Raises:
        SettingsError: it is no list, or one of its items is neither ``host`` nor ``host:port``.
    """
    # A text or an Enum class can be iterated over, too, but is never meant as a list.
    is_one = isinstance(addresses, (str, bytes, bytearray, type))
    if is_one or not isinstance(addresses, Iterable):
        raise SettingsError("addresses must be a list of hosts: put even one into [ ]")
    texts = tuple(addresses)
    for text in texts:
        parse_address(text, default_port)
    return tuple(dict.fromkeys(texts))


def _place(text: str, default_port: int) -> Address | str:
    """Read ``host`` or ``host:port``; if it is neither, say why, without quoting it."""
    digits = ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or ":" not in host or (port and not port.startswith(":")):
            return "in brackets is an IPv6 address, as in [::1]:5672"
        colon, digits = port[:1], port[1:]
    elif text.count(":") > 1:
        host, colon = text, ""
    else:
        host, colon, digits = text.partition(":")
    if not host:
        return "it names no host"
    digits = digits if colon else str(default_port)
    port_number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
    if not 0 < port_number < 65536:
        return "a port is a number of 1 to 65535"
    try:
        return Address(normal_host(host), port_number)
    except NotAHost as error:
        return str(error)


@lru_cache(maxsize=512)
def _split(url: str) -> UrlParts | str:
    """Take a URL apart; if it is none, say why, without quoting it."""
    if url.encode(errors="replace").decode() != url:
        return "it has characters that UTF-8 cannot hold"
    match = _URL.fullmatch(url.strip())
    if match is None:
        return "it begins with amqp:// or amqps://, and every part is quoted (urllib.parse.quote)"
    scheme, login, place, path, query = match.groups(default="")
    if "@" in path + query:
        return "quote what comes before the host, and after it, with urllib.parse.quote"
    bracket, end, port = place.partition("]")
    if end:  # the name of an interface is behind a quoted %, as RFC 6874 has it
        place = unquote(bracket) + end + port
    else:
        name, colon, port = place.partition(":")
        place = unquote(name) + colon + port
    tls = scheme == "amqps"
    found = _place(place.removesuffix(":"), DEFAULT_TLS_PORT if tls else DEFAULT_PORT)
    if isinstance(found, str):
        return f"{found}; and is everything before the host quoted (urllib.parse.quote)?"
    user, colon, password = login.partition(":")
    if match[2] is not None and not colon:
        return "it has a user and no password, as in amqp://user:password@host"
    if match[2] is None:
        user = password = _GUEST
    try:
        # What is quoted and no UTF-8 would silently be another text.
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
        require_text("user", user)
        require_text("password", password)
        vhost = unquote(path[1:].partition("/")[0], errors="strict") or "/"
        check_short_text("vhost", vhost)
    except UnicodeDecodeError:
        return "what it quotes with % is not UTF-8"
    except SettingsError as error:
        return f"its {error}"
    return UrlParts(tls, user, password, found, vhost, query)


def check_short_text(name: str, value: object) -> None:
    """Check what AMQP calls a short string, such as a routing key or the name of an exchange.

    AMQP allows an empty one; here it is none: an empty routing key is bound to nothing that one has
    in mind, and the empty exchange is another one.

    Raises:
        SettingsError: it is not a text, is empty, or is too long; the message names the argument.
    """
    require_text(name, value)
    if len(str(value).encode()) > _SHORT_TEXT_BYTES:
        raise SettingsError(f"{name} has more than the {_SHORT_TEXT_BYTES} bytes that AMQP allows")


def check_login(user: str, password: str, vhost: str) -> None:
    """Check that AMQP can carry a login.

    Raises:
        SettingsError: it cannot; the message names the argument.
    """
    require_text("rabbit_user", user)
    require_text("rabbit_password", password)
    check_short_text("rabbit_vhost", vhost)


def require_text(name: str, value: object) -> None:
    """Check that an argument is a text that is not blank and that AMQP can carry.

    Nobody means a blank one: it comes from a variable or a file that lacks what should be in it.

    Raises:
        SettingsError: it is not; the message names the argument, and does not quote it, as it may
            be a password.
    """
    if not isinstance(value, str):
        raise SettingsError(f"{name} must be a text, not {a_value_of(value)}")
    if not value.strip():
        raise SettingsError(
            f"{name} must not be an empty text: give it one, or look where it comes from, such as "
            "a variable that is not set"
        )
    check_utf8(name, value)


def check_tls(tls: object) -> None:
    """Check an argument that is `None` or a context for TLS.

    Anything else that counts as false, such as ``False`` or an empty text, would be plain TCP.

    Raises:
        SettingsError: it is neither, or is a context for servers.
    """
    if tls is None:
        return
    if not isinstance(tls, ssl.SSLContext):
        raise SettingsError(f"tls must be an ssl.SSLContext, not {a_value_of(tls)}")
    if tls.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise SettingsError(
            "tls is a context for servers, which verifies nobody (as ssl.Purpose.CLIENT_AUTH makes "
            "it): make it by ssl.create_default_context(cafile=...)"
        )


def check_utf8(name: str, text: str) -> None:
    """Check that UTF-8 can hold a text, and that no character of it ends it.

    Raises:
        SettingsError: it cannot; the message does not quote the text.
    """
    if any("\ud800" <= mark <= "\udfff" for mark in text):
        raise SettingsError(
            f"{name} has a character that UTF-8 cannot hold (a lone surrogate). Python makes such "
            "of bytes in another encoding: read its file with the encoding it has, or set "
            "LC_ALL=C.UTF-8 if it comes from the environment or the command line"
        )
    if "\0" in text:
        raise SettingsError(f"{name} has a character NUL, which AMQP does not allow")
