"""The one way in which a host is written: its name, or its IP address.

A host may be typed in many ways that mean the same: ``Robot-B``, ``robot-b`` and ``robot-b.`` are
one name, ``::0001`` and ``::1`` one address. Whatever comes from outside (an argument, a file, a
URL, an announcement) goes through `normal_host` once, in `urls`; from there on, hosts are compared
as texts. Pure: nothing here resolves a name.

Internationalized names are encoded by Python's ``idna`` codec (RFC 3490), since Python's sockets
use the same one for the names that they look up.
"""

from __future__ import annotations

# Otherwise Python imports the codec with the first name that needs it, perhaps without descriptors.
import encodings.idna
import encodings.punycode  # noqa: F401
import re
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv6Address

LONGEST_NAME = 253
"""The most characters of a name, with the dots between its labels (RFC 1035, 2.3.4)."""

_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOOPBACK_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)
"""What the hosts files of Debian and Fedora call this machine."""

_ZONE = re.compile(r"[A-Za-z0-9._-]{1,15}")


class NotAHost(ValueError):
    """A text is neither the name nor the address of a host. The message says why.

    It quotes one character at most: the text may be a part of a URL that holds a password.
    """


def normal_host(text: str) -> str:
    """Write a host in the one way in which hosts are compared.

    A name loses one final dot and its capitals, and its letters beyond ASCII are encoded. An IPv6
    address is written as RFC 5952 says, without brackets; with a zone, such as ``%eth0``, only if
    it is link-local; one that stands for an IPv4 address is written as that. An IPv4 address has to
    be four decimal numbers: programs disagree on what ``010.0.0.1`` is, and ``127.1`` would get
    past whoever looks for 127.0.0.1.

    What it returns is returned unchanged if it is given again.

    Raises:
        NotAHost: it is no host.
    """
    if ":" in text:
        return _normal_ipv6(text)
    if len(text) > LONGEST_NAME + 1:
        raise NotAHost(f"a name has at most {LONGEST_NAME} characters")
    if _PLAIN.fullmatch(text):
        name = text.removesuffix(".").lower()
    else:
        for mark in text:
            _check(mark)
        name = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
        name = _encoded(name.removesuffix(".")).lower()
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise NotAHost("between the dots of a name are 1 to 63 letters, digits and hyphens")
    if len(name) > LONGEST_NAME:
        raise NotAHost(f"a name has at most {LONGEST_NAME} characters")
    if _NUMBER.fullmatch(labels[-1]):
        return _normal_ipv4(name)
    return name


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a normal host is; `None` for a name."""
    try:
        return IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a normal host always means the very machine that connects to it."""
    ip = ip_of(host)
    if ip is not None:
        return ip.is_loopback
    host = host.lower()
    return host in _LOOPBACK_NAMES or host.endswith(".localhost")  # RFC 6761, 6.3


def _check(mark: str) -> None:
    """Check one character of a name, also for what it is normalized to: such as ``a/c``."""
    parts = unicodedata.normalize("NFKC", mark)
    is_odd = any(part.isascii() and not _PLAIN.fullmatch(part) for part in parts)
    if is_odd or not mark.isprintable():
        what = f"U+{ord(mark):04X} ({unicodedata.name(mark, 'unnamed')})"
        raise NotAHost(f"the character {what} cannot be in a host's name")


def _encoded(name: str) -> str:
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        encoded = None
    if encoded is None:  # here, so that the error does not carry the codec's, with the text
        raise NotAHost("its letters cannot be in an internationalized name (IDNA)")
    return encoded


def _normal_ipv4(text: str) -> str:
    if ip_of(text) is None:
        raise NotAHost("an IPv4 address is four decimal numbers of 0 to 255, such as 127.0.0.1")
    return text


def _normal_ipv6(text: str) -> str:
    text, percent, zone = text.partition("%")
    ip = ip_of(text)
    if not isinstance(ip, IPv6Address):
        raise NotAHost(
            "only an IPv6 address has several colons; with a port it is written as [::1]:5672"
        )
    if percent and not _ZONE.fullmatch(zone):
        raise NotAHost("what follows the % of an IPv6 address is the name of an interface")
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{ip}%{zone}" if percent and ip.is_link_local else str(ip)
