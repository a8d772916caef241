"""How many bytes of an event go to a broker: of the message, and with AMQP's frames around it."""

from __future__ import annotations

import pika
import pika.frame
from cryptography.fernet import Fernet

from miros_rabbitmq import Codec
from miros_rabbitmq.wire.envelope import MESH, Kind
from miros_rabbitmq.wire.message import join
from miros_rabbitmq.wire.sealer import Record, Sealer

from .figure import Figure, Result, Size, judged

BATCH = 100

NAME, ROUTING_KEY = "chart", "chart.key"
EVENT = ("SIGNAL", "x" * 20)

FERNET = {"alone": (204, 284), "in a batch": (204.99, 205.79)}
"""The same event as a Fernet token, as it was first: message, and with frames."""

TARGETS = {"alone": 0.7, "in a batch": 0.6}


def sizes(_: object, __: Size) -> Result:
    """One event alone, and 100 that share a message."""
    codec = Codec(Fernet.generate_key())
    sealer = Sealer(codec, MESH, NAME)
    body = codec.serialize(EVENT)
    records: list[Record] = []
    while len(records) < BATCH:
        record = sealer.commit(sealer.seal(Kind.EVENT, body, ROUTING_KEY))
        assert record is not None
        records.append(record)
    figures: list[Figure] = []
    for how, some in (("alone", records[:1]), ("in a batch", records)):
        message = join(some[0].heading.prefix, [record.data for record in some])
        sent = len(message) / len(some), _with_frames(message) / len(some)
        for of, value, before in zip(("message", "with frames"), sent, FERNET[how], strict=True):
            at_most = TARGETS[how] if of == "message" else None
            figures.append(judged("sizes", f"{how}, {of}", value, "B", to=before, at_most=at_most))
    return Result(figures)


def _with_frames(message: bytes) -> int:
    """The bytes of ``basic.publish``: method, header and body, each a frame."""
    publish = pika.spec.Basic.Publish(exchange=MESH, routing_key=ROUTING_KEY, mandatory=True)
    properties = pika.BasicProperties(delivery_mode=2)
    frames = (
        pika.frame.Method(1, publish),
        pika.frame.Header(1, len(message), properties),
        pika.frame.Body(1, message),
    )
    return sum(len(frame.marshal()) for frame in frames)
