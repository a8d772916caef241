"""The layout of a message, what a receiver does with it, and who can do what with which key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..canvas import Canvas

HEADER = (("0xF8", 1), ("format: 2", 1), ("purpose", 1), ("key id", 4), ("epoch", 16))
RECORD = (("length", 4), ("outer number", 6), ("random", 6), ("ciphertext", 0), ("tag", 16))
CONTENT = (
    ("kind", 1),
    ("time sent, ms", 8),
    ("number", 8),
    ("name length", 2),
    ("sender's name", 0),
    ("body", 0),
    ("padding", 0),
)
"""The parts of each row and their bytes; 0 for as many as it takes. A test holds them against the
code."""


def message() -> Canvas:
    """A message of format 2."""
    canvas = Canvas(
        736,
        402,
        "A message of format 2, byte by byte",
        "A message is a header and one or more records. The header has 23 bytes: 0xF8, the "
        "format, the purpose, the key id and the epoch. A record is its length, the nonce (outer "
        "number and random bytes), the ciphertext and the tag. In the ciphertext are kind, time, "
        "number, the sender's name, the body and padding.",
    )

    def row(
        y: float,
        parts: Sequence[tuple[str, int]],
        widths: Sequence[float],
        kind: str | Sequence[str],
        *,
        x: float = 8,
    ) -> None:
        kinds = [kind] * len(parts) if isinstance(kind, str) else kind
        for (name, size), wide, one in zip(parts, widths, kinds, strict=True):
            canvas.box(x, y, wide, 46, one, r=3)
            canvas.text(x + wide / 2, y + 20, name, "s b", at="middle")
            label = f"{size} byte{'s' if size > 1 else ''}" if size else "…"
            canvas.text(x + wide / 2, y + 37, label, "q", at="middle")
            x += wide

    def zoom(
        left: float, right: float, y: float, low_left: float, low_right: float, low: float
    ) -> None:
        canvas.line([(left, y), (low_left, low)], "line", "thin dash", arrow=False)
        canvas.line([(right, y), (low_right, low)], "line", "thin dash", arrow=False)

    canvas.text(8, 20, "the body of an AMQP message", "b")
    for x, wide, name in (
        (8.0, 150.0, "header"),
        (158.0, 200.0, "record"),
        (358.0, 200.0, "record"),
    ):
        kind = "card" if name == "header" else "mesh"
        canvas.card(x, 30, wide, 40, kind, [name], r=3)
    canvas.text(570, 55, "… up to 2,048 records", "q")
    zoom(8, 158, 70, 8, 368, 118)
    canvas.text(376, 119, "the header, in clear: 23 bytes,", "q")
    row(118, HEADER, (52, 76, 72, 66, 94), "card")
    canvas.text(376, 136, "authenticated with each record,", "q")
    canvas.text(376, 153, "and so are exchange and routing key", "q")
    canvas.text(8, 204, "a record", "b")
    row(214, RECORD, (80, 120, 92, 324, 104), ["card", "card", "card", "mesh", "mesh"])
    canvas.line([(90, 210), (90, 205), (298, 205), (298, 210)], "line", "thin", arrow=False, r=0)
    canvas.text(194, 198, "nonce: never used twice with a key", "q", at="middle")
    zoom(300, 624, 260, 8, 728, 320)
    canvas.text(8, 296, "in a record", "b halo")
    canvas.text(716, 296, "encrypted: AES-256-GCM", "b c-mesh halo", at="end")
    row(320, CONTENT, (58, 108, 78, 100, 120, 172, 84), "mesh")
    canvas.text(8, 390, "number: counts per routing key, from 1; what window and order go by", "q")
    return canvas


CHECKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("size", "of the message, the number of records", ("OVERSIZE",)),
    ("address", "exchange and routing key are ours", ("WRONG_NETWORK", "MISROUTED")),
    ("epoch", "not this node's own", ("own: skipped",)),
    ("format", "a node of another version", ("OTHER_FORMAT",)),
    ("layout and tag", "of every record, with one of our keys", ("MALFORMED", "NOT_AUTHENTIC")),
    ("number", "not seen before", ("duplicate: skipped", "GIVEN_UP")),
    ("age and order", "with max_age_s; behind others", ("TOO_OLD", "CLOCK_SKEW", "LATE")),
    ("pickle", "plain data and allowed classes", ("NOT_DESERIALIZABLE",)),
    ("body and name", "its form, the signal's name", ("MALFORMED", "INNER_SIGNAL", "SIGNAL_NAME")),
)
"""What a receiver looks at, in this order, and how it calls what it rejects."""

WHOLE = 5
"""So many of the checks are of the whole message."""


def receiver() -> Canvas:
    """What happens to a message at a receiver."""
    pitch = 56.0
    top = 84.0
    bottom = top + pitch * len(CHECKS)
    reasons = "; ".join(f"{name}: {', '.join(why)}" for name, _, why in CHECKS)
    canvas = Canvas(
        640,
        bottom + 152,
        "What happens to a message at a receiver",
        f"Checks in this order, and what is rejected there: {reasons}. What passes waits until "
        "the FIFO has room, and goes into the FIFO or to on_mesh_rx; then the message is "
        "acknowledged.",
    )
    canvas.queue(150, 8, 200, 34, "mesh", "the chart's queue")
    canvas.line([(250, 42), (250, top)], "mesh")
    canvas.text(260, 68, "at most 32 messages ahead", "q")
    split = top + pitch * WHOLE
    for start, end, words in (
        (top - 6, split - 16, ("the whole", "message")),
        (split - 6, bottom - 12, ("each event", "by itself")),
    ):
        canvas.line([(98, start), (88, start), (88, end), (98, end)], "line", "thin", arrow=False)
        canvas.lines_of_text(80, (start + end) / 2, words, "q", at="end")
    for number, (name, what, why) in enumerate(CHECKS):
        y = top + pitch * number
        kind = "card" if number < WHOLE else "mesh"
        canvas.card(110, y, 280, 42, kind, [name, what])
        canvas.line([(250, y + 42), (250, y + pitch)], "mesh")
        skipped = all(one.endswith("skipped") for one in why)
        canvas.line([(390, y + 21), (424, y + 21)], "line" if skipped else "no")
        rows = (
            [", ".join(why)]
            if len(", ".join(why)) < 32
            else [", ".join(why[:2]), ", ".join(why[2:])]
        )
        first = y + 25 - 8 * (len(rows) - 1)
        for line, text in enumerate(rows):
            style = "k" if skipped else "k c-no"
            canvas.text(432, first + 16 * line, text, style)
    canvas.card(110, bottom, 280, 42, "thread", ["room?", "else it waits, and so does the queue"])
    canvas.line([(250, bottom + 42), (250, bottom + 64)], "mesh")
    canvas.card(
        110, bottom + 64, 280, 42, "chart", ["the chart's FIFO, or on_mesh_rx", "in order, once"]
    )
    canvas.line([(110, bottom + 85), (10, bottom + 85), (10, 25), (150, 25)], "chart", "dash", r=10)
    canvas.text(24, 16, "acknowledge", "s c-chart")
    canvas.text(
        250,
        bottom + 134,
        "no deserializer sees a byte that failed a check above it",
        "q",
        at="middle",
    )
    return canvas


def receiver_narrow() -> Canvas:
    """The same for a phone: a colour says what is judged as a whole."""
    pitch, top = 60.0, 84.0
    bottom = top + pitch * len(CHECKS)
    usual = receiver()
    canvas = Canvas(430, bottom + 170, f"{usual.title}, for a narrow page", usual.says)
    middle = 142.0
    canvas.queue(62, 8, 160, 34, "mesh", "the chart's queue")
    canvas.line([(middle, 42), (middle, top)], "mesh")
    canvas.text(middle + 10, 68, "at most 32 messages ahead", "q")
    for number, (name, what, why) in enumerate(CHECKS):
        y = top + pitch * number
        canvas.card(24, y, 236, 42, "card" if number < WHOLE else "mesh", [name, what])
        canvas.line([(middle, y + 42), (middle, y + pitch)], "mesh")
        skipped = all(one.endswith("skipped") for one in why)
        canvas.line([(260, y + 21), (286, y + 21)], "line" if skipped else "no")
        first = y + 25 - 7.5 * (len(why) - 1)
        canvas.lines_of_text(294, first, why, "k" if skipped else "k c-no", pitch=15)
    canvas.card(24, bottom, 236, 42, "thread", ["room?", "else it waits, and so does the queue"])
    canvas.line([(middle, bottom + 42), (middle, bottom + 64)], "mesh")
    last = ["the chart's FIFO, or on_mesh_rx", "in order, once"]
    canvas.card(24, bottom + 64, 236, 42, "chart", last)
    canvas.line([(24, bottom + 85), (8, bottom + 85), (8, 25), (62, 25)], "chart", "dash", r=10)
    canvas.text(240, 30, "dashed: acknowledge", "s c-chart")
    remarks = (
        "green: of each event by itself; above that, of the whole message",
        "no deserializer sees a byte that failed a check above it",
    )
    canvas.lines_of_text(24, bottom + 132, remarks, "q", pitch=18)
    return canvas


WHO = (
    ("on the LAN, with TLS", ("sees addresses, too",)),
    ("on the LAN, without TLS", ("reads the password, too",)),
    ("has the RabbitMQ password", ("rights and limits narrow this",)),
    ("administers a broker", ()),
    ("has a snoop's key", ("of its own; and the password",)),
    ("has the mesh key", ("and the password",)),
)
CAN = ("sizes, times", "routing keys", "withhold, repeat", "snoop lines", "events", "give orders")
MATRIX = (
    "y.....",
    "yyy...",
    "yyp...",
    "yyy...",
    "yypy..",
    "yyp?yy",
)
"""``y`` yes, ``p`` in part, ``?`` if the snoops have no key of their own."""


def keys(*, narrow: bool = False) -> Canvas:
    """Who can do what. On a phone, the signs are below the names."""
    left, column, row, top = (2.0, 71.0, 74.0, 118.0) if narrow else (214.0, 86.0, 54.0, 118.0)
    wide, gap = (430.0, 1.0) if narrow else (736.0, 2.0)
    told = [
        f"{who}: {', '.join(can for can, sign in zip(CAN, signs, strict=True) if sign != '.')}"
        for (who, _), signs in zip(WHO, MATRIX, strict=True)
    ]
    title = "Keys and who can do what" + (", for a narrow page" if narrow else "")
    high = top + row * len(WHO) + (72 if narrow else 52)
    canvas = Canvas(wide, high, title, "; ".join(told) + ".")
    for number in range(len(CAN)):
        x = left + column * number
        canvas.box(x + gap, 8, column - 2 * gap, top - 20, "host", r=8)
        words = {
            0: ["see sizes", "and times of", "messages"],
            1: ["see", "exchanges,", "routing keys"],
            2: ["withhold", "or repeat", "messages"],
            3: ["read and", "write", "snoop lines"],
            4: ["read", "events"],
            5: ["transmit", "events: give", "orders"],
        }[number]
        start = 8 + (top - 20) / 2 - 8 * (len(words) - 1) + 4
        canvas.lines_of_text(x + column / 2, start, words, "s", at="middle", pitch=16)
    kinds = ("line", "line", "broker", "snoop", "mesh", "mesh")
    for line, ((who, more), signs) in enumerate(zip(WHO, MATRIX, strict=True)):
        y = top + row * line
        kind = "host" if line < 4 else "snoop" if line == 4 else "mesh"
        if narrow:
            canvas.box(2, y, wide - 4, row - 8, kind)
            canvas.text(12, y + 20, who, "b")
            canvas.lines_of_text(wide - 12, y + 20, more, "q", at="end")
        else:
            canvas.box(8, y, 720, row - 8, kind)
            canvas.text(22, y + (20 if more else 28), who, "b")
            canvas.lines_of_text(22, y + 37, more, "q")
        for number, sign in enumerate(signs):
            x = left + column * (number + 0.5)
            middle = y + (45 if narrow else (row - 8) / 2)
            if sign == "y":
                canvas.circle(x, middle, 8, kinds[number])
            elif sign == ".":
                canvas.line([(x - 5, middle), (x + 5, middle)], "line", "thin", arrow=False)
            else:
                canvas.circle(x, middle, 7, kinds[number], filled=False)
                if sign == "?":
                    canvas.text(x, middle + 4, "?", "n", at="middle")
    y = top + row * len(WHO) + 24
    unless = (30.0, y + 24) if narrow else (216.0, y)
    for (x, below), sign, text in (
        ((30.0, y), "y", "can"),
        ((110.0, y), "p", "in part"),
        (unless, "?", "unless the snoops have keys of their own"),
    ):
        if sign == "y":
            canvas.circle(x, below, 8, "line")
        else:
            canvas.circle(x, below, 7, "line", filled=False)
            if sign == "?":
                canvas.text(x, below + 4, "?", "n", at="middle")
        canvas.text(x + 16, below + 4, text, "s")
    x = 220 if narrow else 523
    canvas.line([(x - 5, y), (x + 5, y)], "line", "thin", arrow=False)
    canvas.text(x + 15, y + 4, "cannot", "s")
    return canvas


DRAWINGS: dict[str, Callable[[], Canvas]] = {
    "message": message,
    "receiver": receiver,
    "receiver_narrow": receiver_narrow,
    "keys": keys,
    "keys_narrow": partial(keys, narrow=True),
}
