"""The ARP table: which addresses of a network have lately answered with a hardware address.

This module reads the table and parses its formats; `sweep` is what fills it. The parsers are pure
functions of text: one for the kernel's own file on Linux, and one for the output of the program
``arp``, which every other system has.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import NamedTuple

from ..programs import find_program
from ..resources import shortage

logger: logging.Logger = logging.getLogger(__name__)

PROC_ARP = Path("/proc/net/arp")
"""The kernel's table on Linux. Everyone may read it, and no program is needed."""

ARP_PROGRAM_TIMEOUT_S = 1.0
"""``arp`` takes milliseconds, unless it looks up names in spite of ``-n``."""

_ATF_COM = 0x02
"""The flag of a complete entry (``ATF_COM`` in Linux's ``if_arp.h``)."""

_HARDWARE_ADDRESS = re.compile(r"[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}", re.IGNORECASE)
_BSD_LINE = re.compile(r"\((?P<address>[\d.]+)\) at (?P<hardware>\S+)(?P<rest>.*)")
_BSD_INTERFACE = re.compile(r"\bon (?P<interface>\S+)")
_WINDOWS_HEADER = re.compile(r"^\S.*?:\s+(?P<address>[\d.]+)\s+---\s+0x[0-9a-f]+", re.IGNORECASE)


class ArpEntry(NamedTuple):
    """One line of an ARP table."""

    address: str
    """The IPv4 address that the machine asked for."""

    interface: str
    """The interface's name, or on Windows, where the table has no names, its IPv4 address."""

    complete: bool
    """True if the hardware address is known: a host has answered, now or some minutes ago."""


def parse_proc_net_arp(text: str) -> list[ArpEntry]:
    """Parse the text of ``/proc/net/arp``; lines in another format are skipped."""
    entries = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) != 6 or not _is_ipv4(fields[0]):
            continue
        address, _, flags, hardware, _, interface = fields
        try:
            answered = bool(int(flags, 16) & _ATF_COM)
        except ValueError:
            continue
        entries.append(ArpEntry(address, interface, answered and _is_host(hardware)))
    return entries


def parse_arp_program(text: str) -> list[ArpEntry]:
    """Parse the output of ``arp -a`` on Linux, macOS, the BSDs and Windows.

    The first three print a sentence for each entry: ``name (address) at hardware on interface``.
    Windows prints a table for each interface, below a header with the interface's address. It
    translates the words, so the parser looks only at numbers and punctuation there.
    """
    entries = []
    windows_interface = ""
    for line in text.splitlines():
        sentence = _BSD_LINE.search(line)
        if sentence:
            named = _BSD_INTERFACE.search(sentence["rest"])
            if named and _is_ipv4(sentence["address"]):
                complete = _is_host(sentence["hardware"])
                entries.append(ArpEntry(sentence["address"], named["interface"], complete))
            continue
        header = _WINDOWS_HEADER.match(line)
        if header:
            windows_interface = header["address"]
            continue
        fields = line.split()
        if windows_interface and len(fields) >= 2 and _is_ipv4(fields[0]):
            entries.append(ArpEntry(fields[0], windows_interface, _is_host(fields[1])))
    return entries


_said: set[str] = set()
"""Errors that were said in this process."""


def read_arp_table() -> list[ArpEntry]:
    """Read this machine's ARP table as it is now.

    If it cannot be read, the result is empty and a warning is logged. Sends nothing. Takes
    `ARP_PROGRAM_TIMEOUT_S` at most. May be called from any thread.

    Raises:
        OutOfResources: there is no file descriptor to read it with.
    """
    if sys.platform.startswith("linux"):
        try:
            return parse_proc_net_arp(PROC_ARP.read_text(encoding="utf-8", errors="replace"))
        except OSError as error:
            if (short := shortage(error)) is not None:
                raise short from error
            logger.debug("%s cannot be read (%s); trying the program arp", PROC_ARP, error)
    # Without -n, arp asks a name server about every line. On Windows it has no such option and
    # looks up no names.
    option = "-a" if sys.platform == "win32" else "-an"
    try:
        printed = subprocess.run(
            [find_program("arp"), option],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ARP_PROGRAM_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if (short := shortage(error, forks=True)) is not None:
            raise short from error
        text = str(error)
        # There is a sweep each minute.
        logger.log(
            logging.DEBUG if text in _said else logging.WARNING,
            "the ARP table cannot be read (%s): no other host will be found; "
            "name the brokers with addresses=",
            text,
        )
        _said.add(text)
        return []
    return parse_arp_program(printed.stdout.decode("utf-8", errors="replace"))


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _is_host(hardware: str) -> bool:
    """Whether a text is the hardware address of one host: not zero, and not of a group."""
    if not _HARDWARE_ADDRESS.fullmatch(hardware):
        return False
    octets = [int(octet, 16) for octet in re.split("[:-]", hardware)]
    is_group = bool(octets[0] & 1)  # the I/G bit of IEEE 802: multicast, and broadcast with it
    return any(octets) and not is_group
