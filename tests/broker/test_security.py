"""Strangers, replays, rotations and secrets, on real brokers and charts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from miros import Event, signals

from miros_rabbitmq import (
    AccessRefused,
    Limits,
    LocalBroker,
    MalformedKey,
    MirosRabbitMQError,
    PayloadRefused,
    RabbitScout,
    RejectReason,
    SimplePikaTopicPublisher,
    VhostNotFound,
    json_deserializer,
    json_serializer,
)
from miros_rabbitmq.remedies import PERMISSIONS
from miros_rabbitmq.urls import amqp_url
from miros_rabbitmq.wire.envelope import SNOOP_SPY, SNOOP_TRACE, Kind, Purpose
from miros_rabbitmq.wire.message import HEADER_BYTES, join, read_header
from miros_rabbitmq.wire.pickling import RestrictedPickle

from ..amqp import start_with
from ..helpers import scaled, wait_until
from .charts import arguments_for, make_active_object, running
from .fakes import Fakes, closed_port
from .forging import Forger
from .strangers import attacker, check_nonces, rejected, tap

KEY, OTHER_KEY = Fernet.generate_key(), Fernet.generate_key()


# Receipt.

_watched: list[str] | None = None


def _audit(event: str, _: object) -> None:
    if _watched is not None and event in ("pickle.find_class", "import", "marshal.loads"):
        _watched.append(event)


def test_bytes_without_the_key_reach_no_deserializer(broker_a: LocalBroker) -> None:
    global _watched
    calls: list[bytes] = []
    reader = RestrictedPickle()

    def deserializer(data: bytes) -> Any:
        calls.append(data)
        return reader.loads(data)

    arguments = arguments_for(
        broker_a,
        key=KEY,
        serializer=reader.dumps,
        deserializer=deserializer,
        tx_routing_key="stranger",
    )
    chart, heard = make_active_object("chart", **arguments)
    key_holder, another = Forger(KEY, "stranger"), Forger(OTHER_KEY, "stranger")
    good = key_holder.message(("GOOD", 1))
    bomb = b"\x80\x03cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    malformed = [b"", b"garbage", bomb, good[:-4], good[:23], good + b"\0", b"x" * 70_000]
    not_authentic = [
        another.message(bomb),
        # The id of our key, and a record of another.
        key_holder.join(another.record(bomb, 1)),
        # One good record does not help.
        key_holder.join(key_holder.record(("GOOD", 2), 2), another.record(bomb, 3)),
        good[:2] + bytes([Purpose.NOTICES]) + good[3:],
        # A bit of the key's id, the epoch, both halves of the nonce, the ciphertext and the tag.
        *(
            good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
            for at in (5, 10, 30, 35, 45, len(good) - 1)
        ),
        Forger(KEY, "elsewhere").message(bomb),
        Forger(KEY, "stranger", network=SNOOP_SPY).message(bomb),
    ]
    other_format = [Fernet(KEY).encrypt(bomb), b"\xf8\x03" + good[2:]]
    expected = {
        RejectReason.MALFORMED: len(malformed),
        RejectReason.NOT_AUTHENTIC: len(not_authentic),
        RejectReason.OTHER_FORMAT: len(other_format),
    }
    sys.addaudithook(_audit)
    with running(chart), attacker(broker_a, "stranger") as send:
        _watched = []
        try:
            send(*malformed, *not_authentic, *other_format)
            wait_until(lambda: sum(rejected(chart).values()) >= sum(expected.values()))
            seen = list(_watched)
        finally:
            _watched = None
        assert calls == []
        assert "pickle.find_class" not in seen
        assert "marshal.loads" not in seen
        assert rejected(chart) == expected
        send(good)
        heard.wait_for(1)
    assert len(calls) == 1


def test_each_step_of_the_receipt_has_its_own_counter(
    broker_a: LocalBroker,
) -> None:
    limits = Limits(event_bytes=100_000)
    chart, heard = make_active_object(
        "chart",
        **arguments_for(broker_a, key=KEY, limits=limits, max_age_s=60, tx_routing_key="steps"),
    )
    signals.append("KNOWN")
    now_s = time.time()
    old, new = Forger(KEY, "steps"), Forger(KEY, "steps")
    known = ("KNOWN", 1)
    steps: list[tuple[bytes, RejectReason]] = [
        (b"A" * 128_001, RejectReason.OVERSIZE),
        (new.message(("KNOWN", "x" * 100_000), 1), RejectReason.OVERSIZE),
        (Fernet(KEY).encrypt(b"x"), RejectReason.OTHER_FORMAT),
        (b"\n" * 10_000, RejectReason.MALFORMED),
        (Forger(OTHER_KEY, "steps").message(known), RejectReason.NOT_AUTHENTIC),
        (new.join(new.seal(b"\0" * 32)), RejectReason.MALFORMED),
        (old.message(known, 1, sent_s=now_s - 100), RejectReason.TOO_OLD),
        (old.message(known, 1, sent_s=now_s + 1_000), RejectReason.CLOCK_SKEW),
        (new.message(known, 2, kind=Kind.LINE), RejectReason.MALFORMED),
        (new.message(b"\x80\x03r\xff\xff\xff\xff.", 3), RejectReason.NOT_DESERIALIZABLE),
        (new.message([1], 4), RejectReason.MALFORMED),
        (new.message(("ENTRY_SIGNAL", 1), 5), RejectReason.INNER_SIGNAL),
        (new.message(("BELL\a", 1), 6), RejectReason.SIGNAL_NAME),
    ]
    with running(chart), attacker(broker_a, "steps") as send:
        for body, _ in steps:
            send(body)
        send(
            new.message(("NEW_TO_THIS_PROCESS", 1), 7),
            new.message(("KNOWN", 3), 8),
        )
        heard.wait_for(2)
        expected = [reason for _, reason in steps]
        assert rejected(chart) == {reason: expected.count(reason) for reason in set(expected)}
        assert chart.nets.stats().mesh.gaps == 0, "what is rejected is not missing, too"
    assert heard.heard == [("NEW_TO_THIS_PROCESS", 1), ("KNOWN", 3)]
    assert "NEW_TO_THIS_PROCESS" not in signals


# Replay.


def test_a_captured_message_is_taken_once(broker_a: LocalBroker) -> None:
    sender, _ = make_active_object(
        "sender", **arguments_for(broker_a, key=KEY, tx_routing_key="replay")
    )
    chart, heard = make_active_object(
        "chart", **arguments_for(broker_a, key=KEY, tx_routing_key="replay")
    )
    with running(sender, chart), tap(broker_a) as seen, attacker(broker_a, "replay") as send:
        for number in range(3):
            sender.transmit(Event(signal="ONCE", payload=number))
            sender.nets.flush(scaled(25))
        heard.wait_for(3)
        wait_until(lambda: sum(one.routing_key == "replay" for one in seen) >= 3)
        captured = [one.body for one in seen if one.routing_key == "replay"][-3:]
        header, records = captured[0][:HEADER_BYTES], [body[HEADER_BYTES:] for body in captured]
        # Whole; its records in one message, in another order, and one of them twice.
        again = [*captured, join(header, [*reversed(records), records[0]])]
        changed = [
            *(body + b"\0" for body in captured),
            *(body[:-1] for body in captured),
            *(body[:-1] + bytes([body[-1] ^ 1]) for body in captured),
            *(header[:3] + os.urandom(20) + record for record in records),
        ]
        before = sum(rejected(chart).values())
        send(*again, *changed, Forger(KEY, "replay").message(("LAST", None)))
        wait_until(lambda: heard.payloads("LAST"))
        assert chart.nets.stats().mesh.duplicates == 3 + 4
        assert sum(rejected(chart).values()) - before == len(changed)
    assert heard.payloads("ONCE") == [0, 1, 2]


def test_a_message_of_one_network_is_refused_on_another(broker_a: LocalBroker) -> None:
    lines: list[tuple[str, str]] = []
    chart, _ = make_active_object(
        "chart",
        **arguments_for(
            broker_a, key=KEY, on_trace_rx=lambda sender, line: lines.append((sender, line))
        ),
    )
    chart.nets.enable_snoop_trace()
    event = Forger(KEY, "snoop.trace").message(("EVENT", 1))
    with running(chart), attacker(broker_a, "snoop.trace", SNOOP_TRACE) as send:
        send(event)
        wait_until(lambda: chart.nets.stats().snoop_trace.rejected)
        assert dict(chart.nets.stats().snoop_trace.rejected) == {RejectReason.NOT_AUTHENTIC: 1}
    assert lines == []


# Keys.


def test_keys_are_rotated_on_a_running_mesh_and_no_event_is_lost(
    broker_a: LocalBroker, broker_b: LocalBroker
) -> None:
    """The drill of the documentation: add everywhere, promote everywhere, remove everywhere."""
    here = arguments_for(broker_a, broker_b, key=KEY, tx_routing_key="rotation")
    there = arguments_for(broker_b, broker_a, key=KEY, tx_routing_key="rotation")
    made = [make_active_object(f"c{n}", **(there if n == 2 else here)) for n in range(3)]
    charts = [chart for chart, _ in made]
    stop = threading.Event()
    sent = [0, 0, 0]

    def transmit(n: int) -> None:
        while not stop.wait(0.002):
            charts[n].transmit(Event(signal=f"FROM_{n}", payload=sent[n]))
            sent[n] += 1

    def everybody_has(counts: list[int]) -> bool:
        return all(
            len(record.payloads(f"FROM_{n}")) >= counts[n]
            for m, (_, record) in enumerate(made)
            for n in range(3)
            if n != m
        )

    with running(*charts, peers=1), tap(broker_a) as seen:
        threads = [threading.Thread(target=transmit, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            for keys in ([KEY, OTHER_KEY], [OTHER_KEY, KEY], [OTHER_KEY]):
                for chart in charts:
                    chart.nets.change_mesh_encryption_key(keys)
                counts = [count + 20 for count in sent]
                wait_until(lambda: everybody_has(counts), 20)  # noqa: B023
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wait_until(lambda: everybody_has(sent), 20)
        for chart in charts:
            assert rejected(chart) == {}
            assert chart.nets.stats().mesh.gaps == 0
        check_nonces(list(seen))
        assert len({read_header(message.body).key_id for message in seen}) == 2
        stranger = Forger(KEY, "rotation").message(("OLD_KEY", 1))
        with attacker(broker_a, "rotation") as send:
            send(stranger)
            wait_until(lambda: rejected(charts[0]))
    for m, (_, record) in enumerate(made):
        for n in range(3):
            assert record.payloads(f"FROM_{n}") == ([] if n == m else list(range(sent[n])))


def test_the_keys_of_the_snoops_are_changed_on_their_own(broker_a: LocalBroker) -> None:
    lines: dict[str, list[str]] = {"one": [], "other": []}
    charts = []
    for name in lines:
        chart, _ = make_active_object(
            name,
            **arguments_for(
                broker_a, key=KEY, on_spy_rx=lambda _, line, name=name: lines[name].append(line)
            ),
        )
        chart.nets.enable_snoop_spy()
        charts.append(chart)
    one, other = charts
    with running(one, other):
        one.nets.change_snoop_spy_encryption_key(OTHER_KEY)
        one.nets.change_mesh_encryption_key([KEY, OTHER_KEY])
        one.snoop_scribble("unheard")
        wait_until(lambda: other.nets.stats().snoop_spy.rejected)
        other.nets.change_snoop_spy_encryption_key(OTHER_KEY)
        one.snoop_scribble("heard")
        wait_until(lambda: any("heard" in line for line in lines["other"]))
        with pytest.raises(MalformedKey, match="snoop_trace_encryption_key"):
            one.nets.change_snoop_trace_encryption_key("no key")
        assert one.nets.settings.trace_keys == (KEY, OTHER_KEY), "it uses the keys of the mesh"
    assert not any("unheard" in line for line in lines["other"])


def test_json_takes_the_place_of_pickle(broker_a: LocalBroker) -> None:
    pair: dict[str, Any] = {"serializer": json_serializer, "deserializer": json_deserializer}
    one, _ = make_active_object("one", **arguments_for(broker_a, key=KEY, **pair))
    other, heard = make_active_object("other", **arguments_for(broker_a, key=KEY, **pair))
    with running(one, other):
        one.transmit(Event(signal="JSON", payload={"t": [1, 2.5, None, "ü"]}))
        heard.wait_for(1)
        with pytest.raises(PayloadRefused, match="JSON"):
            one.transmit(Event(signal="JSON", payload={1: 2}))
    assert heard.heard == [("JSON", {"t": [1, 2.5, None, "ü"]})]


# The wire.


def test_what_a_neighbour_reads_without_tls(broker_a: LocalBroker) -> None:
    """In clear: user, password, exchanges and routing keys. Of a chart and its events: nothing."""
    wire = bytearray()
    fakes = Fakes()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(broker_a.host, broker_a.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    wire.extend(data)
                    sink.write(data)
            except ConnectionError:
                pass  # a connection is closed on one side first
            finally:
                sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    with fakes.running():
        address = fakes.listen(proxy)
        arguments = {
            **arguments_for(broker_a, key=KEY, tx_routing_key="clear.key"),
            "rabbit_host": address.host,
            "rabbit_port": address.port,
            "addresses": [str(address)],
        }
        one, _ = make_active_object("chart-one", **arguments)
        other, heard = make_active_object("chart-two", **arguments)
        for chart in (one, other):
            chart.nets.enable_snoop_trace()
            chart.nets.enable_snoop_spy()
        with running(one, other):
            one.transmit(Event(signal="HIDDEN_SIGNAL", payload="hidden payload"))
            one.snoop_scribble("hidden remark")
            heard.wait_for(1)
            wait_until(lambda: other.nets.stats().snoop_spy.received)
    hidden_texts = ("HIDDEN_SIGNAL", "hidden payload", "hidden remark", "listening", KEY.decode())
    for hidden in (*hidden_texts, "chart-one", "chart-two"):
        assert hidden.encode() not in wire, hidden
    for clear in (broker_a.password, "miros.mesh", "clear.key", "snoop.trace"):
        assert clear.encode() in wire, clear


def test_discovery_shows_no_credentials_to_what_is_not_rabbitmq(broker_a: LocalBroker) -> None:
    fakes = Fakes()
    password = "C4nary-p4ssw0rd"
    with fakes.running():
        addresses = [
            fakes.silent(),
            fakes.sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            fakes.sending(b"SSH-2.0-OpenSSH_9.2\r\n"),
            fakes.sending(b"AMQP\x00\x00\x09\x01", hang_up=True),
            fakes.sending(start_with(product="Another")),
            fakes.sending(b"\x15\x03\x01\x00\x02\x02\x16"),
        ]
        chart, _ = make_active_object(
            "chart",
            rabbit_user="canary-user",
            rabbit_password=password,
            mesh_encryption_key=KEY,
            rabbit_host=addresses[0].host,
            rabbit_port=addresses[0].port,
            addresses=[str(one) for one in addresses],
            start_timeout=scaled(4),
            rescan_interval=1.0,
        )
        with running(chart):
            wait_until(lambda: len(fakes.received) >= 2 * 8 * len(addresses), 10)
    for secret in (password, "canary-user"):
        assert secret.encode() not in fakes.received


# Secrets.


def test_secrets_appear_nowhere(
    broker_a: LocalBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every log at DEBUG, pika's too; representations, errors, files, processes, snoop lines."""
    monkeypatch.chdir(tmp_path)
    user, password = "canary", "C4nary/p4ss:w0rd@#?"
    key, snoop_key = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    quoted = amqp_url(user, password, closed_port()).split(":")[2].partition("@")[0]
    secrets = (password, quoted, key, snoop_key, repr(key.encode()), "C4nary", "p4ss:w0rd")
    shown: list[str] = []
    broker_a.ctl("add_user", user, stdin=password)
    broker_a.ctl("set_permissions", user, ".*", ".*", ".*")
    levels = {name: logging.getLogger(name).level for name in ("pika", "miros_rabbitmq")}
    caplog.set_level(logging.DEBUG)
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    good: dict[str, Any] = {
        **arguments_for(broker_a, key=key.encode()),
        "rabbit_user": user,
        "rabbit_password": password,
        "snoop_spy_encryption_key": [snoop_key, key],
        "start_timeout": 2.0,
    }
    try:
        one, _ = make_active_object("one", **good)
        other, heard = make_active_object("other", **good)
        for chart in (one, other):
            chart.nets.enable_snoop_spy()
            chart.nets.enable_snoop_trace()
        with running(one, other):
            one.transmit(Event(signal="WORK", payload=1))
            heard.wait_for(1)
            one.snoop_scribble("a remark")
            shown += [repr(one.nets), repr(one.nets.settings), str(one.nets.stats())]
            shown += [repr(one.this_url()), repr(one.other_urls()), repr([one.this_url()])]
            shown += [
                repr(one.nets.node.membership.scout),
                str(one.nets.node.membership.scout.report),
            ]
            shown += [
                repr(list(one.nets.node.mesh.senders.values())),
                repr(one.nets.node.mesh.receiver),
            ]
            shown += [repr(broker_a), repr(one.nets.node.mesh.spec)]
            with contextlib.suppress(MirosRabbitMQError):
                one.transmit(Event(signal="WORK", payload=object()))
        failing: list[tuple[type[Exception], dict[str, Any]]] = [
            (AccessRefused, {"rabbit_password": password + "!"}),
            (VhostNotFound, {"rabbit_vhost": "nowhere"}),
            (MalformedKey, {"mesh_encryption_key": key[:-3]}),
            (MalformedKey, {"snoop_trace_encryption_key": [key, key + "x"]}),
            (ValueError, {"rabbit_host": f"{user}:{password}@host"}),
            (ValueError, {"addresses": [f"amqp://{user}:{password}@host"]}),
            (TypeError, {"mesh_encyption_key": key, "rabbit_password2": password}),
        ]
        for kind, wrong in failing:
            with (
                pytest.raises(kind) as caught,
                running(make_active_object("wrong", **{**good, **wrong})[0]),
            ):
                pass
            shown += traceback.format_exception(caught.value)
        absent = closed_port()
        for extras in ({"rabbit_port": absent.port, "rabbit_host": absent.host},):
            chart, _ = make_active_object(
                "absent", **{**good, **extras, "addresses": [str(absent)], "start_timeout": 0.3}
            )
            with running(chart):
                shown += [repr(chart.nets), str(chart.nets.stats())]
        scout = RabbitScout(user, password, addresses=[str(absent), str(broker_a.address)])
        shown += [repr(scout), str(scout.report), repr(scout.urls)]
        for url in (f"amqp://{user}:{password}@host/", f"{user}:{password}@host"):
            with pytest.raises(MirosRabbitMQError) as bad_url:
                SimplePikaTopicPublisher(url, "x", "y")
            shown += traceback.format_exception(bad_url.value)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        broker_a.ctl("delete_user", user)
    out, err = capfd.readouterr()
    assert "WORK" in out, "the snoops were on"
    assert any(record.name.startswith("pika") for record in caplog.records)
    formatter = logging.Formatter("%(message)s")
    shown += [out, err, *(formatter.format(record) for record in caplog.records)]
    shown += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in secrets:
        for text in shown:
            assert secret not in text, f"{secret!r} in {text[:300]!r}"


def test_the_password_of_a_local_broker_is_in_no_process_list(broker_a: LocalBroker) -> None:
    secrets = (broker_a.password.encode(),)
    looked_at = 0
    for process in Path("/proc").glob("[1-9]*"):
        for what in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                text = (process / what).read_bytes()
                looked_at += bool(text)
                if int(process.name) != os.getpid():
                    assert not any(secret in text for secret in secrets), process / "cmdline"
    assert looked_at > 2


# Permissions.


def test_the_recommended_permissions_let_everything_work_and_nothing_else(
    broker_a: LocalBroker,
) -> None:
    user, password = "robot", "robot-password"
    patterns = [pattern.strip("'") for pattern in PERMISSIONS.split()]
    broker_a.ctl("add_user", user, stdin=password)
    broker_a.ctl("set_permissions", "-p", "/", user, *patterns)
    try:
        arguments = {
            **arguments_for(broker_a, key=KEY, tx_routing_key="least"),
            "rabbit_user": user,
            "rabbit_password": password,
        }
        lines: list[str] = []
        arguments["on_spy_rx"] = arguments["on_trace_rx"] = lambda _, line: lines.append(line)
        one, _ = make_active_object("one", **arguments)
        other, heard = make_active_object("other", **arguments)
        for chart in (one, other):
            chart.nets.enable_snoop_spy()
            chart.nets.enable_snoop_trace()
        with running(one, other):
            one.transmit(Event(signal="ALLOWED", payload=1))
            heard.wait_for(1)
            wait_until(lambda: any("ALLOWED" in line for line in lines))
            assert one.nets.flush(scaled(25))
        url = amqp_url(user, password, broker_a.address)
        foreign = SimplePikaTopicPublisher(url, "another.system", "k")
        foreign.start_thread()
        try:
            wait_until(lambda: isinstance(foreign.fault, AccessRefused))
            # What the user's own program has named is none of ours.
            assert "set_permissions -p / robot '.*' '.*' '.*'" in str(foreign.fault)
        finally:
            foreign.stop_thread()
    finally:
        broker_a.ctl("delete_user", user)
