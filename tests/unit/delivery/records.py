"""Records to put into an outbox, by what they contain."""

from __future__ import annotations

from miros_rabbitmq.delivery.intake import SMALL_RECORD
from miros_rabbitmq.delivery.outbox import Batch
from miros_rabbitmq.wire.sealer import Heading, Record

HEADING = Heading("a.key", b"")
"""Adds nothing to a message, so that the sizes are those of the records."""


def record(data: bytes, heading: Heading = HEADING) -> Record:
    """A record with this content."""
    return Record(heading, data)


def batch(tag: int, *contents: bytes, heading: Heading = HEADING) -> Batch:
    """A message with these contents."""
    return Batch(tag, heading, tuple(record(data, heading) for data in contents))


SMALL = record(b"x" * SMALL_RECORD)
