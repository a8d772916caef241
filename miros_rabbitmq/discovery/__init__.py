"""Which brokers are there, and why the others cannot be used.

The hosts of the local network (`lan.LocalAreaNetwork`), which of them run a RabbitMQ that takes our
credentials (`scout.RabbitScout`), and who of these belongs to the system (`membership`). May import
the root's modules only; the handshake reads and writes AMQP frames with pika's help. `nets` uses
`membership.Membership` and the values it reports (`roster`), users the first two.
"""
