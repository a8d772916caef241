"""Reads small files from places where others may write, such as a shared working directory.

What stands in such a file decides who gets the password. So it is used only if nobody else can have
written it: it is a regular file and no link, it belongs to this program's user or to root, and
neither everybody nor a group of several users may write it. Opening and reading never wait, as they
would at a FIFO, and never take more than a given size, as they would from ``/dev/zero``.

On Windows, there are no owners and no FIFOs to look at; there, only kind and size count.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

from .resources import require_descriptors

try:
    import grp
    import pwd
except ImportError:  # not on Windows
    grp = pwd = None  # type: ignore[assignment]

_ROOT = 0

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)  # each system has some of them

_ACCESS_LIST = "system.posix_acl_access"

_KINDS = (
    (stat.S_ISLNK, "a link, which may lead anywhere"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


class UnfitFile(ValueError):
    """A file is not used, as others can have written it, or it is no small regular file.

    The text says why and what to do, to be put after the file's name and a comma.
    """


class FileState(NamedTuple):
    """What changes whenever a file is changed, replaced, or gets other rights."""

    mode: int
    user: int
    group: int
    size: int
    modified_ns: int
    changed_ns: int
    inode: int


def state_of(path: Path) -> FileState | None:
    """Tell what is at a path, without opening it; `None` if nothing is. May be used in any thread.

    Raises:
        OSError: that cannot be told.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileState(
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


def read_small_file(path: Path, most_bytes: int) -> bytes:
    """Read a file that nobody else can have written. Never waits; may be used in any thread.

    Args:
        path: the file.
        most_bytes: how large it may be.

    Raises:
        UnfitFile: it is not used.
        OSError: it cannot be read.
        OutOfResources: there are no file descriptors to find out whose it is.
    """
    # Before it is opened, too: to open a device may do something.
    _require_trusted(path, path.lstat())
    handle = os.open(path, _FLAGS)
    try:
        _require_trusted(path, os.fstat(handle), handle)
        parts: list[bytes] = []
        room = most_bytes + 1  # also if it grows meanwhile
        while room > 0 and (part := os.read(handle, room)):
            parts.append(part)
            room -= len(part)
    finally:
        os.close(handle)
    if room <= 0:
        raise UnfitFile(f"it has more than {most_bytes:,} bytes: shorten or remove it")
    return b"".join(parts)


def require_plain_file(path: Path, most_bytes: int) -> None:
    """Check a file that the user names, before a library opens it that would wait at a FIFO.

    Links are followed, and it may belong to anybody. Does not open it; may be used in any thread.

    Args:
        path: the file.
        most_bytes: how large it may be.

    Raises:
        UnfitFile: it is no regular file, is larger, or everybody may write it.
        OSError: there is no such file.
    """
    status = path.stat()
    _require_regular(status)
    if status.st_size > most_bytes:
        raise UnfitFile(f"it has more than {most_bytes:,} bytes")
    if hasattr(os, "geteuid") and status.st_mode & stat.S_IWOTH:
        raise UnfitFile(f"everybody may write it: chmod o-w {_quoted(path)}")


def is_private_folder(folder: str) -> bool:
    """Whether nobody else can rename or replace what this program makes in a folder.

    That is so in a folder of this program's user or root that others may not write, or that is
    sticky, as ``/tmp`` is. May be used in any thread.
    """
    try:
        status = Path(folder).stat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    is_sticky = bool(status.st_mode & stat.S_ISVTX)
    is_ours = status.st_uid in (os.geteuid(), _ROOT)
    return is_ours and (is_sticky or not _other_writers(status, folder))


def _require_trusted(path: Path, status: os.stat_result, handle: int | None = None) -> None:
    _require_regular(status)
    if not hasattr(os, "geteuid"):
        return
    own = os.geteuid()
    if status.st_uid not in (own, _ROOT):
        trusted = "root" if own == _ROOT else f"user {own} or root"
        raise UnfitFile(
            f"it belongs to user {status.st_uid}, and this program uses only what {trusted} has "
            f"written: as root run chown {own} {_quoted(path)}"
        )
    others = _other_writers(status, path if handle is None else handle)
    if others:
        raise UnfitFile(
            f"{others} may write it: chmod go-w {_quoted(path)}; on a disk without such rights, "
            "start the program in another directory"
        )


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((kind for test, kind in _KINDS if test(status.st_mode)), "a device")
    raise UnfitFile(f"it is {kind}: put a file in its place")


def _other_writers(status: os.stat_result, place: str | Path | int) -> str:
    """Who else may write, besides owner and root; empty for nobody.

    Args:
        status: that of a file or folder.
        place: its path, or its descriptor.
    """
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if not status.st_mode & stat.S_IWGRP:
        return ""
    if _has_access_list(place):  # the group's rights are then those that anybody in it can have
        return "others, by its access list,"
    return "" if _is_private(status.st_gid) else f"group {status.st_gid}"


def _has_access_list(place: str | Path | int) -> bool:
    """Whether a list gives rights to further users and groups (acl(5)).

    The owner of a folder can give every new file in it one.
    """
    if not hasattr(os, "getxattr"):  # only Linux has it
        return False
    try:
        os.getxattr(place, _ACCESS_LIST)
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.ENOTSUP)
    return True


def _is_private(group: int) -> bool:
    """Whether a group has nobody but this program's user, or root.

    Where each user has a group of the same name, new files may be writable for it (umask 002). The
    names tell, as for Debian's OpenSSH. Users and groups are looked up for such a file only.
    """
    try:
        found = grp.getgrgid(group)
    except KeyError:
        require_descriptors(2)  # without any, each group is unknown
        return False
    names = set()
    for user in (os.geteuid(), _ROOT):
        try:
            names.add(pwd.getpwuid(user).pw_name)
        except KeyError:
            require_descriptors(2)
    return found.gr_name in names and set(found.gr_mem) <= names


def _quoted(path: Path) -> str:
    return shlex.quote(os.fspath(path))
