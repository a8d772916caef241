"""The book-keeping of delivery: pure, without socket, thread or clock.

What waits for a broker and what it has not confirmed (`outbox`, `intake`), when a publisher sends
(`schedule`, `pacing`), and which messages a receiver has seen (`window`). May import only the
modules of the package's root. The publishers and consumers of `amqp` own these objects and lock
them; `nets` shows their `outbox.DropReason` in its statistics.
"""
