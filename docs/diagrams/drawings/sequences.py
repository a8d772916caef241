"""What happens one after the other: a transmit, an outage, discovery."""

from __future__ import annotations

from collections.abc import Callable

from ..canvas import Canvas
from ..sequence import Interaction, Participant


def _five() -> dict[str, Participant]:
    return {
        "fan": Participant(["fan's thread", "transmit"], "chart", 120),
        "out": Participant(["senders", "one a broker"], "mesh", 116),
        "a": Participant(["broker .71", "hob's queue"], "broker", 116),
        "b": Participant(["broker .72", "tap's queue"], "broker", 116),
        "tap": Participant(["tap's consumer", "and FIFO"], "chart", 120),
    }


def transmit() -> Canvas:
    """One event to two brokers and back."""
    see = Interaction(
        "One transmit to two brokers",
        "fan's thread serializes, numbers and encrypts an event once, posts the record to the "
        "sender of each broker, writes one of them to its socket itself, and returns. The brokers "
        "store the message, confirm it, and deliver it to the queues' consumers, which check it, "
        "post it to the chart's FIFO and acknowledge it.",
        _five(),
    )
    see.does("fan", ["serialize, number,", "encrypt: once"], "chart")
    see.message("fan", "out", "post: the same bytes", "mesh")
    see.message("out", "b", "publish", "mesh", more="fan's own thread writes this one")
    see.does("fan", ["transmit returns"], "chart")
    see.message("out", "a", "publish", "mesh", more="the publishers' thread")
    see.does("b", ["store"], "broker")
    see.message("b", "out", "confirm", "broker", style="dash")
    see.message("a", "out", "confirm", "broker", style="dash")
    see.does("out", ["forget the record"], "mesh")
    see.message("b", "tap", "deliver", "mesh")
    see.does("tap", ["check, decrypt,", "post to the FIFO"], "chart")
    see.message("tap", "b", "acknowledge", "chart", style="dash", more="one for up to 8 messages")
    see.does("tap", ["tap's thread", "handles the event"], "chart")
    return see.canvas()


def outage() -> Canvas:
    """The same through a lost connection."""
    see = Interaction(
        "An event through an outage",
        "fan publishes event 7, broker .72 stores and delivers it, but the connection is lost "
        "before the confirm arrives. The sender keeps the event, connects again, sends 7 again "
        "and then 8, which has waited. tap skips the second 7, as it has seen the number, and "
        "takes 8.",
        {
            "fan": Participant(["fan's thread", "transmit"], "chart", 120),
            "out": Participant(["sender to .72", "outbox"], "mesh", 128),
            "b": Participant(["broker .72", "tap's queue"], "broker", 124),
            "tap": Participant(["tap's consumer", "and FIFO"], "chart", 124),
        },
        width=700,
    )
    see.message("fan", "out", "post event 7", "mesh")
    see.message("out", "b", "publish 7", "mesh")
    see.message("b", "tap", "deliver 7", "mesh")
    see.does("tap", ["7 is new: to the FIFO"], "chart")
    see.message("b", "out", "confirm 7", "no", style="dash", lost=True)
    see.note("the connection is lost", kind="no", space=4)
    see.does("out", ["7 is unconfirmed: back to", "the head of the outbox"], "mesh")
    see.message("fan", "out", "post event 8", "mesh", more="transmit does not wait")
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


def discovery() -> Canvas:
    """How a chart finds the brokers."""
    see = Interaction(
        "Discovery, step by step",
        "start_at lets the discovery thread collect candidates: named hosts, the hosts file, the "
        "cache and a sweep of the LAN. It asks each: a TCP connection, an AMQP header; only a "
        "RabbitMQ that answers gets user and password. Who accepts becomes a member and gets a "
        "publisher. Announcements of other nodes bring further candidates.",
        {
            "chart": Participant(["start_at", "of the chart"], "chart", 112),
            "disc": Participant(["discovery", "a thread"], "thread", 112),
            "a": Participant(["host .71", "RabbitMQ"], "broker", 112),
            "b": Participant(["host .80", "a printer"], "card", 112),
            "c": Participant(["host .95", "behind a router"], "broker", 124),
        },
    )
    see.message("chart", "disc", "start", "chart")
    see.does("disc", ["candidates: named,", "hosts file, cache"], "thread")
    see.message("disc", "b", "sweep of the LAN, if no hosts are named", "line", style="dash")
    see.message("disc", "a", "connect, AMQP header", "line")
    see.message("a", "disc", "I am RabbitMQ", "broker", style="dash")
    see.message("disc", "a", "user, password, vhost", "line", more="only now")
    see.message("a", "disc", "accepted", "broker", style="dash")
    see.message("disc", "b", "connect", "line")
    see.message("b", "disc", "no RabbitMQ: gets no password", "no", style="dash")
    see.message("disc", "chart", "member: .71", "mesh", more="gets a publisher")
    see.does("chart", ["start_at returns"], "chart")
    see.note("later, by the mesh", space=4)
    see.message("c", "disc", "a node there announces its broker, with our key", "mesh")
    see.message("disc", "c", "asked in the same way", "line")
    see.message("disc", "chart", "member: .95", "mesh")
    see.note("again every 60 s, for whoever is no member", space=4)
    return see.canvas()


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "transmit": transmit,
    "outage": outage,
    "discovery": discovery,
}
