"""The page for users of release 0.2: what it says that works does, and each new name exists."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pika
import pytest
from cryptography.fernet import Fernet
from miros import ActiveObject, Event

import miros_rabbitmq
from miros_rabbitmq import (
    LocalBroker,
    NetworkedActiveObject,
    NetworkedFactory,
    RejectReason,
    network,
)
from miros_rabbitmq.older import LAN, NETS, NETWORK

from ..broker.charts import arguments_for, make_active_object, running
from ..helpers import complaints, scaled, wait_until
from .documents import ROOT, programs_of

PAGE = "docs/from_0_2.rst"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
KEY = Fernet.generate_key()

ROW = re.compile(r"^   \* - (.+(?:\n {5} .+)*)\n     - (.+(?:\n {5} .+)*)$", re.MULTILINE)
NAMES = TEXT[TEXT.index("\nEvery name, and") : TEXT.index("\nMoving a fleet\n")]


def literals(cell: str) -> list[str]:
    return re.findall(r"``(.+?)``", cell)


def rows(text: str) -> list[tuple[str, str]]:
    return [(old, new) for old, new in ROW.findall(text) if old != "in 0.2"]


def test_each_name_that_is_gone_is_on_the_page_and_the_other_way_round() -> None:
    gone = {
        re.split(r"[.(]", one.removeprefix("nets."), maxsplit=1)[0]
        for old, _ in rows(NAMES)
        for one in literals(old)
        if one.startswith("nets.")
    }
    assert gone == set(NETS)
    gone = {
        re.split(r"[.(]", one.removeprefix("lan."), maxsplit=1)[0]
        for old, _ in rows(NAMES)
        for one in literals(old)
        if one.startswith("lan.")
    }
    assert gone == set(LAN)
    named = {one for old, _ in rows(NAMES) for one in literals(old) if one.isalnum()}
    assert named - set(network.__all__) == set(NETWORK)


def test_each_name_to_write_today_exists() -> None:
    chart = NetworkedActiveObject("lamp", "robot", "rabbit", KEY, addresses=[])
    there = {**vars(miros_rabbitmq), "chart": chart, "nets": chart.nets, "lan": chart.lan}
    tried = 0
    for _, new in rows(NAMES):
        for one in literals(new):
            name = re.split(r"[(=]", one, maxsplit=1)[0]
            if name.partition(".")[0] not in there or one.endswith("="):
                continue
            tried += 1
            *owner, last = name.split(".")
            if owner == ["Settings"]:
                assert last in miros_rabbitmq.Settings.__dataclass_fields__
            elif owner:
                what = there[owner[0]]
                for part in owner[1:]:
                    what = getattr(what, part)
                # A property may do I/O: it is enough that the class has it.
                assert hasattr(type(what), last) or last in vars(what), name
            else:
                assert name in miros_rabbitmq.__all__, name
    assert tried > 25


def test_each_argument_on_the_page_is_one() -> None:
    known = {*miros_rabbitmq.Settings.__dataclass_fields__, "amqp_url", "exchange_name"}
    known |= {"routing_key", "codec", "name", "on_message"}
    for _, new in rows(TEXT):
        for one in literals(new):
            if found := re.fullmatch(r"(\w+)=.*", one):
                assert found[1] in known | {"live_trace"}, one


@pytest.mark.usefixtures("rabbitmq_installed")
def test_the_older_program_prints_what_the_page_says(tmp_path: Path) -> None:
    block = programs_of(PAGE)["older.py"]
    address = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 256}.2"
    (tmp_path / "older.py").write_text(block.code.replace("127.0.0.2", address), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "older.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, block.printed), done.stderr
    assert complaints(done.stderr) == ""


@pytest.mark.parametrize("kind", [NetworkedActiveObject, NetworkedFactory])
def test_what_stays_is_still_there(kind: Any) -> None:
    stays = TEXT[TEXT.index("\nWhat stays\n") : TEXT.index("\nA program as it was written")]
    for name in (
        "start_at",
        "transmit",
        "enable_snoop_trace",
        "enable_snoop_spy",
        "snoop_scribble",
    ):
        assert f"``{name}``" in stays
        assert callable(getattr(kind, name))
    for name in ("enable_snoop_trace_no_color", "enable_snoop_spy_no_color"):
        assert callable(getattr(kind, name))
    texts = [KEY.decode()] * 3
    older = kind(
        "lamp", "robot", "rabbit", texts[0], "a.b", "a.#", *texts[1:], addresses=["127.0.0.9"]
    )
    settings = older.nets.settings
    assert (settings.tx_key, settings.rx_key) == ("a.b", "a.#")
    assert settings.spy_keys == settings.trace_keys == settings.mesh_keys == (KEY,)
    assert isinstance(older.lan.this.address, str)
    assert older.lan.other.addresses == ["127.0.0.9"]
    assert isinstance(older.this_url(), str)
    spelled = re.findall(r"``(\w+_enc\w+_key)``", stays[stays.index("- the spellings") :])
    assert len(spelled) == 3
    kind("lamp", "robot", "rabbit", **dict.fromkeys(spelled, KEY), addresses=[])


def test_the_older_methods_are_told_of() -> None:
    for name in ("on_network_message", "on_network_trace_message", "on_network_spy_message"):
        assert f"``{name}``" in TEXT
    assert not hasattr(ActiveObject, "on_network_message")


def old_message(payload: object) -> bytes:
    """A message as release 0.2 made it: a Fernet token of a pickle."""
    return Fernet(KEY).encrypt(pickle.dumps(("192.168.1.9", payload)))


def test_old_and_new_nodes_share_a_broker_and_do_not_disturb_each_other(
    broker_a: LocalBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Step 1 of the move: the old exchange is another one, declared in another way."""
    arguments = arguments_for(broker_a, key=KEY)
    one, _ = make_active_object("one", **arguments)
    two, _ = make_active_object("two", **arguments)
    with running(one, two), pika.BlockingConnection(pika.URLParameters(broker_a.url())) as old:
        channel = old.channel()
        channel.exchange_declare("miros.mesh.exchange", "topic", durable=False)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "miros.mesh.exchange", "#")
        channel.basic_publish("miros.mesh.exchange", "empty", old_message("of the old ones"))
        one.transmit(Event(signal="HELLO", payload="new"))
        wait_until(lambda: two.nets.stats().mesh.received == 1)
        wait_until(lambda: channel.queue_declare(queue, passive=True).method.message_count == 1)
        assert not two.nets.stats().mesh.rejected
        # And on the exchange of the new ones, an old message is told as such.
        channel.basic_publish("miros.mesh", two.nets.settings.rx_key, old_message("lost"))
        wait_until(lambda: two.nets.stats().mesh.rejected.get(RejectReason.OTHER_FORMAT))
        channel.exchange_delete("miros.mesh.exchange")
    said = "it comes from an older version of miros-rabbitmq"
    assert f"*{said}*" in " ".join(TEXT.split())
    assert said in caplog.text
