"""The book-keeping of delivery: pure, without socket, thread or clock.

What waits for a broker and what it has not confirmed (`outbox`), which messages a receiver has seen
(`inbox`), and how often a publisher sends (`pacing`). May import the root's modules only.
The publishers and consumers of `amqp` own these objects and lock them; `nets` shows their
`outbox.DropReason` in its statistics.
"""
