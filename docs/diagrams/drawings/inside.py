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
        "while single messages keep up, each goes at once; to one broker, from the chart's own "
        "thread",
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


def publisher_narrow() -> Canvas:
    """The same for a phone, from the top down."""
    usual = publisher()
    canvas = Canvas(430, 484, f"{usual.title}, for a narrow page", usual.says)
    middle = 235.0
    canvas.card(170, 8, 130, 62, "chart", ["fan's thread", "transmit:", "encrypt, post"])
    canvas.line([(middle, 70), (middle, 104)], "mesh")
    # The FIFO, with its events.
    canvas.box(147, 104, 176, 50, "card", r=4)
    for place in range(7):
        canvas.box(300 - place * 20, 110, 15, 38, "mesh", r=2)
    canvas.line([(middle, 154), (middle, 250)], "mesh")
    canvas.lines_of_text(middle + 8, 174, ("FIFO: 20,000", "events, 32 MiB"), "q halo")
    canvas.card(160, 250, 150, 70, "mesh", ["AMQP message", "at most 512 events", "or 128 kB"])
    canvas.line([(middle, 320), (middle, 372)], "mesh")
    canvas.text(middle + 8, 350, "at most 32 unconfirmed", "q")
    canvas.broker(166, 368, 138, 66, ["RabbitMQ", "exchange miros.mesh"])
    # At the right: the short way. At the left: the confirm.
    canvas.line([(300, 39), (420, 39), (420, 402), (304, 402)], "mesh", "thick", r=12)
    words = ("while single", "messages keep", "up, each goes", "at once; to one", "from the chart")
    canvas.lines_of_text(412, 64, words, "s c-mesh", at="end")
    canvas.line([(166, 402), (8, 402), (8, 129), (147, 129)], "broker", "dash", r=12)
    remark = "confirmed: forget it; connection lost: back to the head"
    canvas.text(8, 466, remark, "s c-broker")
    # The controller and the thread.
    canvas.line([(165, 154), (165, 200), (142, 200)], "thread", "dash")
    canvas.text(172, 196, "depth", "q")
    canvas.card(20, 166, 122, 68, "card", ["PID", "half a message:", "256 events"])
    canvas.line([(81, 234), (81, 264)], "thread", "dash")
    canvas.text(89, 254, "tempo", "q")
    sends = ["miros publishers", "sends what has", "collected, every", "1 to 5 ms"]
    canvas.card(20, 264, 122, 84, "thread", sends)
    canvas.line([(142, 290), (160, 290)], "thread")
    return canvas


THREADS = (
    "miros publishers",
    "miros consumers",
    "miros discovery",
    "on_mesh_rx of fan",
    "miros log",
)
"""The threads in the picture, as the page names them; a test looks for each in the code."""


def threads() -> Canvas:
    """The threads of a process with one chart."""
    canvas = Canvas(
        736,
        472,
        "The threads of a process",
        "The chart's thread transmits and takes from the FIFO. miros publishers drives all "
        "connections that send, miros consumers all that listen, for all charts of the process. "
        "The consumers post to the chart's FIFO or to the thread of on_mesh_rx. The snoops' "
        "threads, discovery and the log work beside them.",
    )
    canvas.box(8, 8, 560, 456, "host", r=12)
    canvas.text(24, 32, "a process", "b")
    canvas.box(24, 46, 528, 192, "chart", r=10, style="faint")
    canvas.text(40, 68, "the chart fan", "b")
    canvas.broker(612, 120, 116, 66, ["brokers", "all of them"])
    canvas.broker(612, 254, 116, 66, ["broker", "this host's own"])
    # The chart's thread writes, and leaves the rest.
    canvas.line([(230, 98), (670, 98), (670, 124)], "mesh", "thick", r=10)
    canvas.text(300, 90, "writes to one broker itself", "s c-mesh")
    canvas.line([(56, 140), (56, 340)], "mesh")
    canvas.text(64, 322, "what is for the others", "s c-mesh")
    canvas.line([(290, 376), (590, 376), (590, 172), (612, 172)], "mesh", r=10)
    # Receiving.
    canvas.line([(612, 292), (534, 292)], "mesh")
    canvas.line([(298, 284), (158, 284), (158, 214)], "mesh", r=10)
    canvas.line([(158, 182), (158, 140)], "mesh")
    canvas.line([(416, 264), (416, 224)], "mesh", "dash")
    canvas.text(426, 254, "or", "q")
    canvas.queue(86, 182, 144, 32, "chart", "FIFO")
    canvas.card(40, 84, 190, 56, "thread", ["fan's thread", "handlers, transmit"])
    canvas.card(
        298, 112, 236, 42, "thread", ["two for the snoops", "while one is enabled"], first="s b"
    )
    canvas.card(
        298, 172, 236, 52, "thread", ["on_mesh_rx of fan", "and one for each of your callbacks"]
    )
    canvas.card(298, 264, 236, 56, "thread", ["miros consumers", "checks, decrypts, posts"])
    canvas.card(
        40,
        340,
        250,
        72,
        "thread",
        ["miros publishers", "writes to brokers,", "takes their confirms"],
    )
    canvas.card(310, 396, 130, 48, "thread", ["miros discovery", "looks for brokers"], first="s b")
    canvas.card(452, 396, 100, 48, "thread", ["miros log", "writes lines"], first="s b")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "publisher": publisher,
    "publisher_narrow": publisher_narrow,
    "threads": threads,
}
