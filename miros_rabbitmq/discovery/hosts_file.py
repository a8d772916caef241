"""The hosts file: brokers that the user names in a file, and may change while the program runs.

The file is ``.miros_rabbitmq_hosts.json`` in the working directory, such as::

    {"hosts": ["192.168.1.71", "robot.example", "10.0.0.5:5673"]}

It is read again when it has changed. A mistake in it is logged once, with line and column, and the
hosts that it named before stay in force until it is corrected. A host that cannot be read costs no
other host of the file. Neither is the file used if somebody else can have written it (see
`small_file`): whoever it names gets the password.
"""

from __future__ import annotations

import json
import logging
import os
from json.decoder import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, NamedTuple

from ..exceptions import SettingsError
from ..resources import shortage
from ..small_file import FileState, UnfitFile, read_small_file, state_of
from ..urls import Address, parse_address

logger: logging.Logger = logging.getLogger(__name__)

HOSTS_FILE_NAME = ".miros_rabbitmq_hosts.json"

OLDER_NAME = ".miros_rabbit_hosts.json"
"""What older documentation calls the file. It is not read."""

MOST_BYTES = 1024 * 1024
"""The largest file that is read: some 40,000 hosts."""

_MOST_MISTAKES = 5
"""The most hosts of one file that a warning quotes."""

_MOST_PLACES = 1_000
"""The most mistakes of one file whose places are looked for. Each takes a walk through the text."""

_MOST_NAMED = 20
"""The most hosts of one file that a line of the log names."""

_WHITESPACE = " \t\n\r"
_EXAMPLE = '{"hosts": ["192.168.1.71", "robot.example:5673"]}'


_told: set[Path] = set()


def tell_of_older_name(folder: Path) -> None:
    """Warn once in a process of a file that the user takes for a hosts file.

    Args:
        folder: where the hosts file would be.
    """
    older = folder / OLDER_NAME
    # Also of a folder that nobody may look into, and without following a link.
    if older in _told or not os.path.lexists(older):
        return
    _told.add(older)
    remedy = f"rename it (mv {OLDER_NAME} {HOSTS_FILE_NAME})"
    if os.path.lexists(folder / HOSTS_FILE_NAME):
        remedy = "that one is there, too: remove the older one"
    logger.warning(
        "%s is not read, as the hosts file is called %s: %s", older, HOSTS_FILE_NAME, remedy
    )


class HostsFileError(ValueError):
    """A hosts file has a mistake. The text says where and which.

    Args:
        text: the text of the file.
        offset: where the mistake is, in characters from the start.
        problem: what is wrong.
    """

    def __init__(self, text: str, offset: int, problem: str) -> None:
        before = text[:offset]
        self.line: int = before.count("\n") + 1
        self.column: int = offset - before.rfind("\n")
        super().__init__(f"line {self.line}, column {self.column}: {problem}")


class Named(NamedTuple):
    """What the text of a hosts file names."""

    hosts: tuple[Address, ...]
    """The hosts, each once, in the order of the file."""
    mistakes: tuple[HostsFileError, ...]
    """What is wrong with the others."""


class HostsFile:
    """The hosts that one file names. For one thread.

    Args:
        path: the file, which does not have to exist.
        default_port: the port of a host that is given without one.
    """

    def __init__(self, path: Path, default_port: int) -> None:
        self.path = path
        self._port = default_port
        self._state: FileState | None = None
        self._hosts: tuple[Address, ...] = ()
        self._failure = ""

    @property
    def hosts(self) -> tuple[Address, ...]:
        """The hosts that the file named when it was last read. Does no I/O."""
        return self._hosts

    def refresh(self) -> bool:
        """Read the file if it has changed since it was last read.

        Returns:
            whether `hosts` has changed.

        Raises:
            OutOfResources: it cannot be read now; the hosts stay.
        """
        try:
            state = state_of(self.path)
        except OSError as error:
            if (short := shortage(error)) is not None:
                raise short from error
            # The folder does not even let us look whether there is a file.
            if self._is_news(_words(error)):
                logger.info("there may be a hosts file %s: %s", self.path, _words(error))
            return False
        if state is None:
            self._state, self._failure = None, ""
            return self._take(())
        if state == self._state:
            return False
        try:
            named = parse_hosts(_text_of(read_small_file(self.path, MOST_BYTES)), self._port)
        except FileNotFoundError:
            return False  # it was removed in this moment; the next look sees that
        except OSError as error:  # it is tried again at the next look
            if (short := shortage(error)) is not None:
                raise short from error
            if self._is_news(_words(error)):
                self._warn("cannot be used", _words(error), self._hosts)
            return False
        except (UnfitFile, HostsFileError) as error:
            self._state, self._failure = state, ""
            self._warn("cannot be used", str(error), self._hosts)
            return False
        self._state, self._failure = state, ""
        if not named.mistakes:
            return self._take(named.hosts)
        # One of the former hosts may be the one that cannot be read now.
        hosts = tuple(dict.fromkeys([*named.hosts, *self._hosts]))
        texts = [str(one) for one in named.mistakes[:_MOST_MISTAKES]]
        if len(named.mistakes) > len(texts):
            texts.append(f"and {len(named.mistakes) - len(texts)} more")
        self._warn("has hosts that cannot be used", "; ".join(texts), hosts)
        return self._take(hosts)

    def _is_news(self, failure: str) -> bool:
        """Whether the last attempt did not fail for the same reason."""
        before, self._failure = self._failure, failure
        return failure != before

    def _warn(self, what: str, why: str, hosts: tuple[Address, ...]) -> None:
        logger.warning(
            "the hosts file %s %s, %s; correct it; until then %s",
            self.path,
            what,
            why,
            f"the {len(hosts)} hosts it named before are used" if hosts else "it adds no hosts",
        )

    def _take(self, hosts: tuple[Address, ...]) -> bool:
        if hosts == self._hosts:
            return False
        self._hosts = hosts
        shown = ", ".join(map(str, hosts[:_MOST_NAMED])) or "no hosts"
        more = len(hosts) - _MOST_NAMED
        logger.info("%s names %s%s", self.path, shown, f" and {more} more" if more > 0 else "")
        return True


def parse_hosts(text: str, default_port: int) -> Named:
    """Parse the text of a hosts file.

    Args:
        text: the text.
        default_port: the port of a host that is given without one.

    Returns:
        the hosts, and what is wrong with entries that are none.

    Raises:
        HostsFileError: the text as a whole has a mistake.
    """
    try:
        content = json.loads(text)
    except JSONDecodeError as error:
        raise HostsFileError(text, error.pos, f"this is not JSON: {error.msg}") from None
    except RecursionError:
        raise HostsFileError(text, 0, "it is nested too deeply") from None
    except ValueError:
        raise HostsFileError(text, 0, "a number in it has too many digits") from None
    places = _Places(text)
    if not isinstance(content, dict) or "hosts" not in content:
        raise HostsFileError(text, places.start, f"it has no list of hosts, as in {_EXAMPLE}")
    at, value = places.of_member("hosts")
    if not isinstance(value, list):
        raise HostsFileError(text, at, f'"hosts" is a list, as in {_EXAMPLE}')
    hosts: list[Address] = []
    mistakes: list[HostsFileError] = []
    for place, entry in places.of_items(at):
        try:
            hosts.append(parse_address(entry, default_port))
        except SettingsError as error:
            if len(mistakes) < _MOST_PLACES:
                mistakes.append(HostsFileError(text, place, str(error)))
    return Named(tuple(dict.fromkeys(hosts)), tuple(mistakes))


class _Places:
    """Finds the places of values in a text that is known to be JSON.

    Attributes:
        start: where the text's value begins.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._decode = JSONDecoder().raw_decode
        self.start = self._skip(0, "")

    def of_member(self, name: str) -> tuple[int, Any]:
        """Place and value of a member of the outer object; of several, the last, as in `json`."""
        found: tuple[int, Any] = (self.start, None)
        at = self._skip(self.start + 1, "")
        while self._text[at] != "}":
            key, at = self._decode(self._text, at)
            place = self._skip(at, ":")
            value, at = self._decode(self._text, place)
            if key == name:
                found = (place, value)
            at = self._skip(at, ",")
        return found

    def of_items(self, at: int) -> list[tuple[int, Any]]:
        """Place and value of each item of the list that begins at a place."""
        items = []
        at = self._skip(at + 1, "")
        while self._text[at] != "]":
            value, end = self._decode(self._text, at)
            items.append((at, value))
            at = self._skip(end, ",")
        return items

    def _skip(self, at: int, mark: str) -> int:
        """The next place that has neither white space nor one of these marks."""
        while at < len(self._text) and self._text[at] in _WHITESPACE + mark:
            at += 1
        return at


def _text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        # The error counts its place without the byte order mark.
        good = error.object[: error.start].decode("utf-8", "replace")
        raise HostsFileError(good, len(good), "this is not UTF-8") from None


def _words(error: OSError) -> str:
    return error.strerror or str(error)
