"""The hosts file: its content, the warning for a broken one, and that changes are read."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miros_rabbitmq.discovery import hosts_file
from miros_rabbitmq.discovery.hosts_file import (
    HostsFile,
    HostsFileError,
    parse_hosts,
    tell_of_older_name,
)
from miros_rabbitmq.urls import Address

HOSTS: tuple[Address, ...] = (
    Address("192.168.1.71"),
    Address("robot.example"),
    Address("10.0.0.5", 5673),
)
GOOD = '{"hosts": ["192.168.1.71", "robot.example", "10.0.0.5:5673"]}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hosts.json"


def written(path: Path, text: str) -> None:
    """Write, and make the file look changed even if the clock of the disk is coarse."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


def test_hosts_have_the_default_port_unless_they_name_one() -> None:
    assert parse_hosts(GOOD, 5672) == (HOSTS, ())
    hosts = parse_hosts('{"hosts": ["a", "b:5673"]}', 5001)
    assert hosts.hosts == (Address("a", 5001), Address("b", 5673))


def test_a_host_that_is_named_twice_counts_once_and_further_members_are_for_the_reader() -> None:
    text = '{"comment": ["hosts", {"hosts": 1}], "hosts": ["a", "b", "a:5672"]}'
    assert parse_hosts(text, 5672).hosts == (Address("a"), Address("b"))


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("", 1, 1, "not JSON"),
        ('{"hosts": [\n  "a"\n  "b"\n]}', 3, 3, "not JSON: Expecting ',' delimiter"),
        ("[1, 2]", 1, 1, "no list of hosts"),
        ('\n  {"host": ["a"]}', 2, 3, "no list of hosts"),
        ('{"hosts": "a"}', 1, 11, '"hosts" is a list'),
        ('{"x": "\\"hosts\\"",\n "hosts": {}}', 2, 11, '"hosts" is a list'),
    ],
)
def test_an_error_is_named_with_line_and_column(
    text: str, line: int, column: int, problem: str
) -> None:
    with pytest.raises(HostsFileError) as caught:
        parse_hosts(text, 5672)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"line {line}, column {column}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ('{"hosts": [\n  "a",\n  "b:http"\n]}', 3, 3, "'host' or 'host:port'"),
        ('{"hosts": ["a", 7]}', 1, 17, "'host' or 'host:port', not 7"),
        ('{"hosts": ["", "a"]}', 1, 12, "'host' or 'host:port'"),
        ('{"hosts": ["a\u2100b", "a"]}', 1, 12, "U+2100"),
        ('{"hosts": ["127.1", "a"]}', 1, 12, "four decimal numbers"),
    ],
)
def test_a_host_that_is_none_costs_no_other_and_is_named_with_line_and_column(
    text: str, line: int, column: int, problem: str
) -> None:
    hosts, (mistake,) = parse_hosts(text, 5672)
    assert hosts == (Address("a"),)
    assert (mistake.line, mistake.column) == (line, column)
    assert str(mistake).startswith(f"line {line}, column {column}: ")
    assert problem in str(mistake)


def test_one_host_in_many_spellings_is_one() -> None:
    text = '{"hosts": ["Robot-B", "robot-b", "ROBOT-B.:5672", "[::1]", "0::1"]}'
    assert parse_hosts(text, 5672) == ((Address("robot-b"), Address("::1")), ())


@given(st.text(), st.lists(st.one_of(st.integers(), st.text(), st.lists(st.none()))))
def test_any_text_is_accepted_or_refused_with_line_and_column(
    text: str, entries: list[object]
) -> None:
    for candidate in (text, json.dumps({"hosts": entries}), json.dumps({"x": text, "hosts": 1})):
        place = (1, 1)
        try:
            for mistake in parse_hosts(candidate, 5672).mistakes:
                assert min(mistake.line, mistake.column) >= 1
        except HostsFileError as error:
            place = (error.line, error.column)
        assert min(place) >= 1


def test_no_file_names_no_hosts_and_needs_no_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = HostsFile(path, 5672)
    assert not hosts.refresh()
    assert hosts.hosts == ()
    assert not caplog.records


def test_a_file_that_is_made_changed_and_removed_is_followed(path: Path) -> None:
    hosts = HostsFile(path, 5672)
    written(path, GOOD)
    assert hosts.refresh()
    assert list(hosts.hosts) == list(HOSTS)
    assert not hosts.refresh(), "nothing has changed"
    written(path, '{"hosts": ["10.0.0.9"]}')
    assert hosts.refresh()
    assert list(hosts.hosts) == [Address("10.0.0.9")]
    path.unlink()
    assert hosts.refresh()
    assert not hosts.hosts


def test_a_file_is_read_only_when_it_has_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = HostsFile(path, 5672)
    written(path, GOOD)
    hosts.refresh()

    def refuse(_: Path, __: int) -> bytes:
        raise AssertionError("it was read")

    monkeypatch.setattr(hosts_file, "read_small_file", refuse)
    assert not hosts.refresh()


def test_a_broken_file_costs_one_warning_and_its_former_content_holds(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = HostsFile(path, 5672)
    written(path, GOOD)
    hosts.refresh()
    written(path, '{"hosts": ["10.0.0.9" 1]}')
    for _ in range(3):
        assert not hosts.refresh()
    assert hosts.hosts == HOSTS
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert f"{path} cannot be used, line 1, column 23: " in record.getMessage()
    assert "the 3 hosts it named before are used" in record.getMessage()
    written(path, '{"hosts": ["10.0.0.9"]}')
    assert hosts.refresh()


def test_a_byte_order_mark_is_passed_over_and_other_bytes_are_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hosts = HostsFile(path, 5672)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert hosts.refresh()
    path.write_bytes(b'{"hosts":\n ["\xff"]}')
    assert not hosts.refresh()
    assert "line 2, column 4: this is not UTF-8" in caplog.text


def test_a_host_that_is_none_costs_one_warning_and_the_former_hosts_stay_beside_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of the former hosts may be the one that was mistyped: it must not be given up for it."""
    hosts = HostsFile(path, 5672)
    written(path, '{"hosts": ["a", "b"]}')
    hosts.refresh()
    written(path, '{"hosts": ["a", "b b", 7, 8, 9, 10, 11, "c"]}')
    assert hosts.refresh()
    assert not hosts.refresh()
    assert hosts.hosts == (Address("a"), Address("c"), Address("b"))
    (record,) = (one for one in caplog.records if one.levelno >= logging.WARNING)
    assert "has hosts that cannot be used, line 1, column 17: " in record.getMessage()
    assert "; and 1 more; correct it; until then the 3 hosts" in record.getMessage()
    written(path, '{"hosts": ["a", "c"]}')
    assert hosts.refresh()
    assert list(hosts.hosts) == [Address("a"), Address("c")]


def test_a_file_with_the_name_of_older_documentation_is_pointed_out_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell_of_older_name(tmp_path)
    assert not caplog.records
    (tmp_path / ".miros_rabbit_hosts.json").write_text(GOOD)
    for _ in range(3):
        tell_of_older_name(tmp_path)
    (said,) = [one.getMessage() for one in caplog.records]
    assert f"{tmp_path}/.miros_rabbit_hosts.json is not read" in said
    assert "mv .miros_rabbit_hosts.json .miros_rabbitmq_hosts.json" in said


def test_nobody_is_told_to_move_the_older_file_over_the_present_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".miros_rabbit_hosts.json", ".miros_rabbitmq_hosts.json"):
        (tmp_path / name).write_text(GOOD)
    tell_of_older_name(tmp_path)
    (said,) = [one.getMessage() for one in caplog.records]
    assert "mv " not in said
    assert "remove the older one" in said


def test_a_folder_that_cannot_be_looked_into_has_no_file_of_the_older_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        tell_of_older_name(tmp_path)
    assert not caplog.records
