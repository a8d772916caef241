"""Files that others may have planted make no reader wait, fill no memory, and are not believed."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from miros_rabbitmq.discovery.hosts_file import MOST_BYTES as MOST_HOSTS_BYTES
from miros_rabbitmq.discovery.hosts_file import HostsFile
from miros_rabbitmq.discovery.lan_cache import LanCache
from miros_rabbitmq.small_file import (
    UnfitFile,
    is_private_folder,
    read_small_file,
    require_plain_file,
    state_of,
)
from miros_rabbitmq.urls import Address
from tests.helpers import scaled

MOST = 1_000
STRANGER = 54_321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

Plant = Callable[[Path], object]


def text_for(path: Path) -> str:
    return f'{{"hosts": ["10.6.6.6"], "addresses": ["10.6.6.6"], "time": {time.time()}}}'


def plain(path: Path) -> None:
    path.write_text(text_for(path))
    path.chmod(0o644)


def link_to_own(path: Path) -> None:
    plain(path.with_name("other"))
    path.symlink_to("other")


def link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def with_rights(mode: int, user: int = -1, group: int = -1) -> Plant:
    def plant(path: Path) -> None:
        plain(path)
        os.chown(path, user, group)
        path.chmod(mode)

    return plant


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))


def sparse(path: Path) -> None:
    plain(path)
    os.truncate(path, 2**40)


PLANTED: dict[str, tuple[Plant, str]] = {
    "a FIFO": (os.mkfifo, "it is a FIFO"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "it is a link"),
    "a link to a FIFO": (link_to_fifo, "it is a link"),
    "a link to a file of ours": (link_to_own, "it is a link"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "it is a link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "it is a link"),
    "a directory": (Path.mkdir, "it is a directory"),
    "a socket": (socket_at, "it is a socket"),
    "a terabyte": (sparse, "bytes: shorten or remove it"),
    "a file that everybody may write": (with_rights(0o666), "everybody may write it: chmod go-w"),
    "a file that a group may write": (
        with_rights(0o664, group=STRANGER),
        f"group {STRANGER} may write it: chmod go-w",
    ),
    "a file of somebody else": (with_rights(0o644, STRANGER), f"it belongs to user {STRANGER}"),
}
needs_root = {"a file that a group may write", "a file of somebody else"}
PLANTS = [
    pytest.param(plant, said, id=name, marks=[as_root] if name in needs_root else [])
    for name, (plant, said) in PLANTED.items()
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def soon(call: Callable[[], object]) -> None:
    """Make sure that a call does not wait for anybody."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(scaled(20))
    assert not thread.is_alive(), "it waits"


@pytest.mark.parametrize(("plant", "said"), PLANTS)
def test_what_others_can_have_planted_is_refused_with_the_reason(
    path: Path, plant: Plant, said: str
) -> None:
    plant(path)

    def read() -> None:
        with pytest.raises(UnfitFile, match=said):
            read_small_file(path, MOST)

    soon(read)


@pytest.mark.parametrize(("plant", "said"), PLANTS)
def test_the_hosts_file_and_the_cache_say_so_and_go_on_without_it(
    path: Path, plant: Plant, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant(path)
    hosts, cache = HostsFile(path, 5672), LanCache(path, 600.0)

    def read() -> None:
        for _ in range(3):
            assert not hosts.refresh()
        assert cache.load() is None

    soon(read)
    assert hosts.hosts == ()
    of_hosts, of_cache = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert f"the hosts file {path} cannot be used, {said}"[:60] in of_hosts.getMessage()
    assert said in of_hosts.getMessage()
    assert said in of_cache.getMessage()


@pytest.mark.parametrize(("plant", "said"), PLANTS)
def test_once_it_is_replaced_by_a_file_of_ours_it_is_used(
    path: Path, plant: Plant, said: str
) -> None:
    hosts = HostsFile(path, 5672)
    plant(path)
    assert not hosts.refresh(), said
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    plain(path)
    assert hosts.refresh()
    assert hosts.hosts == (Address("10.6.6.6"),)


def test_a_file_that_is_mended_by_its_rights_alone_is_read_again(path: Path) -> None:
    hosts = HostsFile(path, 5672)
    with_rights(0o666)(path)
    assert not hosts.refresh()
    path.chmod(0o644)
    assert hosts.refresh()
    path.chmod(0o606)
    assert not hosts.refresh()
    assert hosts.hosts == (Address("10.6.6.6"),), "what it said before nobody else had written"


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o755])
def test_a_file_that_nobody_else_may_write_is_read(path: Path, mode: int) -> None:
    with_rights(mode)(path)
    assert read_small_file(path, MOST) == path.read_bytes()


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_refused(path: Path) -> None:
    path.write_bytes(b"x" * MOST)
    assert len(read_small_file(path, MOST)) == MOST
    path.write_bytes(b"x" * (MOST + 1))
    with pytest.raises(UnfitFile, match="more than 1,000 bytes"):
        read_small_file(path, MOST)


def test_a_file_that_grows_while_it_is_read_takes_no_more_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"x" * 10)
    asked = []

    def endless(handle: int, count: int) -> bytes:
        asked.append(count)
        return b"x" * min(count, 300)

    monkeypatch.setattr(os, "read", endless)
    with pytest.raises(UnfitFile, match="more than 1,000 bytes"):
        read_small_file(path, MOST)
    assert asked == [1_001, 701, 401, 101]


def test_what_takes_the_place_of_a_file_just_before_it_is_opened_is_refused_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def swap(name: os.PathLike[str], flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real_open(name, flags)

    plain(path)
    monkeypatch.setattr(os, "open", swap)

    def read() -> None:
        with pytest.raises(UnfitFile, match="it is a FIFO"):
            read_small_file(path, MOST)

    soon(read)
    path.unlink()

    def swap_for_link(name: os.PathLike[str], flags: int) -> int:
        path.unlink()
        path.symlink_to("/dev/zero")
        return real_open(name, flags)

    plain(path)
    monkeypatch.setattr(os, "open", swap_for_link)
    with pytest.raises(OSError, match="symbolic links"):
        read_small_file(path, MOST)


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else set()
    for name, (plant, _) in PLANTED.items():
        if name in needs_root and os.geteuid() != 0:
            continue
        one = path.with_name(name.replace(" ", "").replace("/", ""))
        plant(one)
        one.with_name("other").unlink(missing_ok=True)
        one.with_name("pipe").unlink(missing_ok=True)
        with pytest.raises(UnfitFile):
            read_small_file(one, MOST)
    if before:
        assert set(os.listdir("/proc/self/fd")) == before


class _Group:
    def __init__(self, name: str, *members: str) -> None:
        self.gr_name, self.gr_mem = name, list(members)


@pytest.mark.parametrize(
    ("group", "is_read"),
    [
        (_Group("me"), True),
        (_Group("me", "me"), True),
        (_Group("root"), True),
        (_Group("me", "me", "bob"), False),
        (_Group("staff"), False),
        (_Group("staff", "me"), False),
        (None, False),
    ],
    ids=["own", "own, named", "root's", "own with another", "foreign", "of several", "unknown"],
)
def test_a_group_may_write_it_if_only_its_user_is_in_the_group(
    path: Path, group: _Group | None, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a umask of 002 and a group for each user, new files are writable for the group."""

    class Users:
        pw_name = "me"

    def found(_: int) -> _Group:
        if group is None:
            raise KeyError
        return group

    class Root:
        pw_name = "root"

    monkeypatch.setattr(grp, "getgrgid", found)
    users = {os.geteuid(): Users} if os.geteuid() else {}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: users.get(uid, Root))
    if os.geteuid() == 0 and group is not None:
        group = _Group(*[name.replace("me", "root") for name in (group.gr_name, *group.gr_mem)])
    with_rights(0o664)(path)
    if is_read:
        assert read_small_file(path, MOST)
    else:
        with pytest.raises(UnfitFile, match="may write it"):
            read_small_file(path, MOST)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """As the kernel keeps it: the version, then tag, rights and id of each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)


NOBODY = 0xFFFFFFFF
OWNER, GROUP, REST = (1, 6, NOBODY), (4, 4, NOBODY), (0x20, 4, NOBODY)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Linux has access lists")
@pytest.mark.parametrize("rights_of_all", [6, 4], ids=["others may write", "nobody may"])
@pytest.mark.parametrize("is_inherited", [False, True])
def test_an_access_list_can_let_others_write_what_only_the_own_group_seems_to(
    path: Path, rights_of_all: int, is_inherited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of a shared folder can give it a list that each new file in it gets."""
    monkeypatch.setattr("miros_rabbitmq.small_file._is_private", lambda _: True)
    entries = access_list(OWNER, (2, 6, STRANGER), GROUP, (0x10, rights_of_all, NOBODY), REST)
    try:
        if is_inherited:
            os.setxattr(path.parent, "system.posix_acl_default", entries)
        path.write_text("{}")
        if not is_inherited:
            os.setxattr(path, "system.posix_acl_access", entries)
    except OSError:
        pytest.skip("this disk has no access lists")
    folder = path.with_name("folder")
    folder.mkdir()
    os.setxattr(folder, "system.posix_acl_access", entries)
    assert is_private_folder(str(folder)) == (rights_of_all == 4)
    if rights_of_all == 4:
        assert read_small_file(path, MOST) == b"{}"
        return
    with pytest.raises(UnfitFile, match=r"others, by its access list, may write it: chmod go-w"):
        read_small_file(path, MOST)
    path.chmod(path.stat().st_mode & ~0o022)  # the remedy
    assert read_small_file(path, MOST) == b"{}"


@as_root
def test_a_program_of_another_user_reads_what_root_wrote_but_not_what_third_ones_wrote(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(path)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert read_small_file(path, MOST)
    os.chown(path, STRANGER, STRANGER)
    assert read_small_file(path, MOST)
    os.chown(path, STRANGER + 1, -1)
    with pytest.raises(UnfitFile) as caught:
        read_small_file(path, MOST)
    assert str(caught.value) == (
        f"it belongs to user {STRANGER + 1}, and this program uses only what user {STRANGER} or "
        f"root has written: as root run chown {STRANGER} {path}"
    )


def test_the_remedy_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "it's; rm -rf $HOME"
    folder.mkdir()
    with_rights(0o666)(folder / "file")
    with pytest.raises(UnfitFile) as caught:
        read_small_file(folder / "file", MOST)
    assert """chmod go-w '""" in str(caught.value)


def test_a_folder_that_cannot_be_looked_into_is_not_taken_for_one_without_the_file(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    plain(path)
    hosts = HostsFile(path, 5672)
    hosts.refresh()

    def refuse(_: Path) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refuse)
    for _ in range(3):
        assert not hosts.refresh()
    assert hosts.hosts == (Address("10.6.6.6"),)
    assert caplog.text.count("Permission denied") == 1


def test_a_file_that_cannot_be_read_for_a_moment_is_tried_again_and_said_once(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while another program has a lease of it (fcntl(2)), which does not change it."""
    plain(path)
    hosts = HostsFile(path, 5672)

    def refuse(*_: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        for _ in range(3):
            assert not hosts.refresh()
    assert hosts.refresh()
    assert hosts.hosts == (Address("10.6.6.6"),)
    assert caplog.text.count("Resource temporarily unavailable") == 1


def test_a_folder_that_was_removed_has_no_file(tmp_path: Path) -> None:
    assert state_of(tmp_path / "gone" / "file") is None
    (tmp_path / "file").touch()
    assert state_of(tmp_path / "file" / "file") is None
    hosts = HostsFile(tmp_path / "gone" / "file", 5672)
    assert not hosts.refresh()


def test_half_a_million_mistakes_in_a_hosts_file_hold_nobody_up(path: Path) -> None:
    path.write_text('{"hosts": [' + "1," * (MOST_HOSTS_BYTES // 2 - 20) + '"10.6.6.6"]}')
    hosts = HostsFile(path, 5672)
    soon(hosts.refresh)
    assert hosts.hosts == (Address("10.6.6.6"),)


# ---- files that the user names


def test_a_file_that_the_user_names_may_be_a_link_and_belong_to_anybody(path: Path) -> None:
    link_to_own(path)
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER)
    require_plain_file(path, MOST)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (os.mkfifo, "it is a FIFO"),
        (PLANTED["a link to a FIFO"][0], "it is a FIFO"),
        (PLANTED["a link to /dev/zero"][0], "it is a device"),
        (Path.mkdir, "it is a directory"),
        (sparse, "more than 1,000 bytes"),
        (with_rights(0o666), "everybody may write it: chmod o-w"),
    ],
)
def test_but_nothing_at_which_a_library_would_wait_and_nothing_that_everybody_may_write(
    path: Path, plant: Plant, said: str
) -> None:
    plant(path)
    with pytest.raises(UnfitFile, match=said):
        require_plain_file(path, MOST)


# ---- folders


@pytest.mark.parametrize(
    ("mode", "is_private"), [(0o700, True), (0o755, True), (0o777, False), (0o1777, True)]
)
def test_in_a_private_folder_nobody_else_can_replace_what_is_ours(
    tmp_path: Path, mode: int, is_private: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert is_private_folder(os.fspath(folder)) is is_private


@as_root
def test_the_owner_of_a_folder_can_replace_what_is_in_it(tmp_path: Path) -> None:
    os.chown(tmp_path, STRANGER, -1)
    assert not is_private_folder(os.fspath(tmp_path))
    assert not is_private_folder(os.fspath(tmp_path / "missing"))
