"""What happens one after the other: a transmit, an outage, discovery."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..canvas import Canvas
from ..sequence import Interaction, Participant

NARROW = 430.0
"""The width of the form for a phone."""


def _five(*, narrow: bool) -> dict[str, Participant]:
    if narrow:
        return {
            "fan": Participant(["fan's", "thread"], "chart", 72),
            "out": Participant(["senders", "one a broker"], "mesh", 82),
            "a": Participant(["broker .71", "hob's queue"], "broker", 82),
            "b": Participant(["broker .72", "tap's queue"], "broker", 82),
            "tap": Participant(["tap's", "consumer"], "chart", 72),
        }
    return {
        "fan": Participant(["fan's thread", "transmit"], "chart", 120),
        "out": Participant(["senders", "one a broker"], "mesh", 116),
        "a": Participant(["broker .71", "hob's queue"], "broker", 116),
        "b": Participant(["broker .72", "tap's queue"], "broker", 116),
        "tap": Participant(["tap's consumer", "and FIFO"], "chart", 120),
    }


def _wording(*, narrow: bool) -> Callable[[str, str], str]:
    """Chooses of two texts the one for the width."""
    return lambda usual, short: short if narrow else usual


def _titled(title: str, *, narrow: bool) -> str:
    return f"{title}, for a narrow page" if narrow else title


def transmit(*, narrow: bool = False) -> Canvas:
    """One event to two brokers and back."""
    say = _wording(narrow=narrow)
    see = Interaction(
        _titled("One transmit to two brokers", narrow=narrow),
        "fan's thread serializes, numbers and encrypts an event once, posts the record to the "
        "sender of each broker, writes one of them to its socket itself, and returns. The brokers "
        "store the message, confirm it, and deliver it to the queues' consumers, which check it, "
        "post it to the chart's FIFO and acknowledge it.",
        _five(narrow=narrow),
        width=NARROW if narrow else 736,
        margin=2 if narrow else 8,
    )
    see.does("fan", ["serialize, number,", "encrypt: once"], "chart")
    see.message("fan", "out", say("post: the same bytes", "post"), "mesh")
    see.message("out", "b", "publish", "mesh", more="fan's own thread writes this one")
    see.does("fan", ["transmit returns"], "chart")
    see.message("out", "a", "publish", "mesh", more=say("the publishers' thread", "its own thread"))
    see.does("b", ["store"], "broker")
    see.message("b", "out", "confirm", "broker", style="dash")
    see.message("a", "out", "confirm", "broker", style="dash")
    see.does("out", ["forget the record"], "mesh")
    see.message("b", "tap", "deliver", "mesh")
    see.does("tap", ["check, decrypt,", "post to the FIFO"], "chart")
    see.message(
        "tap",
        "b",
        "acknowledge",
        "chart",
        style="dash",
        more=say("one for up to 8 messages", ""),
    )
    see.does("tap", ["tap's thread", "handles the event"], "chart")
    return see.canvas()


def outage(*, narrow: bool = False) -> Canvas:
    """The same through a lost connection."""
    say = _wording(narrow=narrow)
    wide = 96 if narrow else 124
    tap = ["tap's", "consumer"] if narrow else ["tap's consumer", "and FIFO"]
    see = Interaction(
        _titled("An event through an outage", narrow=narrow),
        "fan publishes event 7, broker .72 stores and delivers it, but the connection is lost "
        "before the confirm arrives. The sender keeps the event, connects again, sends 7 again "
        "and then 8, which has waited. tap skips the second 7, as it has seen the number, and "
        "takes 8.",
        {
            "fan": Participant(["fan's thread", "transmit"], "chart", wide),
            "out": Participant(["sender to .72", "outbox"], "mesh", wide),
            "b": Participant(["broker .72", "tap's queue"], "broker", wide),
            "tap": Participant(tap, "chart", wide),
        },
        width=NARROW if narrow else 700,
        margin=2 if narrow else 8,
    )
    see.message("fan", "out", "post event 7", "mesh")
    see.message("out", "b", "publish 7", "mesh")
    see.message("b", "tap", "deliver 7", "mesh")
    see.does("tap", ["7 is new: to the FIFO"], "chart")
    see.message("b", "out", "confirm 7", "no", style="dash", lost=True)
    see.note("the connection is lost", kind="no", space=4)
    see.does("out", ["7 is unconfirmed: back to", "the head of the outbox"], "mesh")
    see.message(
        "fan", "out", "post event 8", "mesh", more=say("transmit does not wait", "without delay")
    )
    see.note("0.1 s later, then at growing intervals up to 5 s", space=4)
    see.message("out", "b", "connect, declare", "line")
    see.message("out", "b", "publish 7 again", "mesh")
    see.message("out", "b", "publish 8", "mesh")
    see.message("b", "tap", "deliver 7", "mesh")
    see.does("tap", ["7 was seen: skip it,", "count a duplicate"], "thread")
    see.message("b", "tap", "deliver 8", "mesh")
    see.does("tap", ["8 is new: to the FIFO"], "chart")
    see.message("b", "out", "confirm 7 and 8", "broker", style="dash")
    see.does("out", ["forget both"], "mesh")
    return see.canvas()


def discovery(*, narrow: bool = False) -> Canvas:
    """How a chart finds the brokers."""
    say = _wording(narrow=narrow)
    wide = 80 if narrow else 112
    see = Interaction(
        _titled("Discovery, step by step", narrow=narrow),
        "start_at lets the discovery thread collect candidates: named hosts, the hosts file, the "
        "cache and a sweep of the LAN. It asks each: a TCP connection, an AMQP header; only a "
        "RabbitMQ that answers gets user and password. Who accepts becomes a member and gets a "
        "publisher. Announcements of other nodes bring further candidates.",
        {
            "chart": Participant(["start_at", "of the chart"], "chart", wide),
            "disc": Participant(["discovery", "a thread"], "thread", wide),
            "a": Participant(["host .71", "RabbitMQ"], "broker", wide),
            "b": Participant(["host .80", "a printer"], "card", wide),
            "c": Participant(["host .95", "behind a router"], "broker", 92 if narrow else 124),
        },
        width=NARROW if narrow else 736,
        margin=2 if narrow else 8,
    )
    see.message("chart", "disc", "start", "chart")
    see.does("disc", ["candidates: named,", "hosts file, cache"], "thread")
    sweep = say("sweep of the LAN, if no hosts are named", "sweep of the LAN")
    see.message("disc", "b", sweep, "line", style="dash")
    see.message("disc", "a", say("connect, AMQP header", "connect"), "line")
    see.message("a", "disc", say("I am RabbitMQ", "RabbitMQ"), "broker", style="dash")
    see.message("disc", "a", say("user, password, vhost", "password"), "line", more="only now")
    see.message("a", "disc", "accepted", "broker", style="dash")
    see.message("disc", "b", "connect", "line")
    see.message(
        "b",
        "disc",
        say("no RabbitMQ: gets no password", "no RabbitMQ: no password"),
        "no",
        style="dash",
    )
    see.message("disc", "chart", "member: .71", "mesh", more=say("gets a publisher", ""))
    see.does("chart", ["start_at returns"], "chart")
    see.note("later, by the mesh", space=4)
    see.message("c", "disc", "a node there announces its broker, with our key", "mesh")
    see.message("disc", "c", "asked in the same way", "line")
    see.message("disc", "chart", "member: .95", "mesh")
    see.note("again every 60 s, for whoever is no member", space=4)
    return see.canvas()


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "transmit": transmit,
    "transmit_narrow": partial(transmit, narrow=True),
    "outage": outage,
    "outage_narrow": partial(outage, narrow=True),
    "discovery": discovery,
    "discovery_narrow": partial(discovery, narrow=True),
}
