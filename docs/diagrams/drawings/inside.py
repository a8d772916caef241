"""The inside of a node: a publisher with its FIFO, its PID and its thread; and all threads."""

from __future__ import annotations

from collections.abc import Callable

from ..canvas import Canvas


def publisher() -> Canvas:
    """A publisher."""
    canvas = Canvas(
        736,
        346,
        "A publisher with FIFO, PID and thread",
        "transmit puts the encrypted record into the FIFO of the publisher. While single messages "
        "keep up, the chart's own thread writes them at once. Beyond that, the publishers' thread "
        "sends what has collected, at a beat of 1 to 5 ms that a PID sets by the depth of the "
        "FIFO. At most 32 messages are unconfirmed; a confirm ends a record's life, a lost "
        "connection puts it back.",
    )
    canvas.card(8, 128, 120, 62, "chart", ["fan's thread", "transmit:", "encrypt, post"])
    # The FIFO, with its events.
    canvas.line([(128, 159), (172, 159)], "mesh")
    canvas.box(172, 134, 176, 50, "card", r=4)
    for place in range(7):
        canvas.box(325 - place * 20, 140, 15, 38, "mesh", r=2)
    canvas.text(260, 204, "FIFO: 20,000 events, 32 MiB", "q halo", at="middle")
    canvas.line([(348, 159), (398, 159)], "mesh")
    canvas.card(398, 124, 132, 70, "mesh", ["AMQP message", "at most 512 events", "or 128 kB"])
    canvas.line([(530, 159), (590, 159)], "mesh")
    canvas.broker(590, 126, 138, 66, ["RabbitMQ", "exchange miros.mesh"])
    canvas.text(560, 214, "at most 32 unconfirmed", "q halo", at="middle")
    # Above: the short way, and the confirm.
    canvas.line([(68, 128), (68, 36), (692, 36), (692, 130)], "mesh", "thick", r=12)
    canvas.text(
        380,
        26,
        "while single messages keep up: the chart's own thread writes each at once",
        "s c-mesh",
        at="middle",
    )
    canvas.line([(640, 130), (640, 84), (230, 84), (230, 134)], "broker", "dash", r=12)
    canvas.text(
        436,
        76,
        "confirmed: forget it; connection lost: back to the head",
        "s c-broker",
        at="middle",
    )
    # Below: the controller and the thread.
    canvas.line([(260, 212), (260, 262)], "thread", "dash")
    canvas.text(252, 240, "depth", "q", at="end")
    canvas.card(140, 262, 192, 72, "card", ["PID", "set point: half a message,", "256 events"])
    canvas.line([(332, 298), (394, 298)], "thread", "dash")
    canvas.text(361, 290, "tempo", "q", at="middle")
    canvas.card(
        394,
        262,
        204,
        72,
        "thread",
        ["miros publishers", "a thread; sends at the beat,", "every 1 to 5 ms"],
    )
    canvas.line([(464, 262), (464, 194)], "thread")
    canvas.text(472, 246, "sends what has collected", "q")
    return canvas


THREADS = (
    "miros publishers",
    "miros consumers of fan",
    "miros discovery of fan",
    "miros snoop teller of fan",
    "miros snoop terminal of fan",
    "on_mesh_rx of fan",
    "miros log",
)
"""The threads in the picture, as the page names them; a test looks for each in the code."""


def threads() -> Canvas:
    """The threads of a process with one chart."""
    canvas = Canvas(
        736,
        470,
        "The threads of a process",
        "The chart's thread transmits and takes from the FIFO. miros publishers drives all "
        "connections that send, for all charts of the process; miros consumers of fan those that "
        "listen, and posts to the FIFO or to the thread of on_mesh_rx. Discovery, the snoops' "
        "threads and the log work beside them.",
    )
    canvas.box(8, 8, 560, 454, "host", r=12)
    canvas.text(24, 32, "a process", "b")
    canvas.box(24, 46, 528, 312, "chart", r=10, style="faint")
    canvas.text(40, 68, "the chart fan", "b")
    canvas.broker(612, 120, 116, 66, ["brokers", "all of them"])
    canvas.broker(612, 238, 116, 66, ["broker", "this host's own"])
    canvas.card(40, 84, 190, 56, "thread", ["fan's thread", "handlers, transmit"], first="b")
    canvas.card(
        40,
        374,
        250,
        72,
        "thread",
        ["miros publishers", "one for all charts of a process", "sends, takes confirms"],
    )
    # The chart's thread writes, and leaves the rest.
    canvas.line([(230, 104), (670, 104), (670, 124)], "mesh", "thick", r=10)
    canvas.text(244, 97, "writes to one broker itself", "s c-mesh")
    canvas.line([(56, 140), (56, 374)], "mesh")
    canvas.text(64, 346, "the others", "s c-mesh")
    canvas.line([(290, 398), (590, 398), (590, 172), (612, 172)], "mesh", r=10)
    # Receiving.
    canvas.card(298, 240, 236, 56, "thread", ["miros consumers of fan", "checks, decrypts, posts"])
    canvas.line([(612, 268), (534, 268)], "mesh")
    canvas.queue(86, 172, 144, 32, "chart", "FIFO")
    canvas.line([(298, 258), (158, 258), (158, 204)], "mesh", r=10)
    canvas.line([(158, 172), (158, 140)], "mesh")
    canvas.card(
        298, 158, 236, 56, "thread", ["on_mesh_rx of fan", "and one for each of your callbacks"]
    )
    canvas.line([(416, 240), (416, 214)], "mesh", "dash")
    canvas.text(426, 232, "or", "q")
    # Beside.
    canvas.card(298, 308, 130, 42, "thread", ["discovery", "of fan"], first="s b")
    canvas.card(440, 308, 94, 42, "thread", ["snoops: 2", "while enabled"], first="s b")
    canvas.card(380, 412, 172, 40, "thread", ["miros log", "for all charts"], first="s b")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {"publisher": publisher, "threads": threads}
