"""Which brokers there are, and why the others cannot be used.

`lan.LocalAreaNetwork` finds the hosts of the local network. `scout.RabbitScout` finds out which of
them run a RabbitMQ that accepts our login. `membership.Membership` keeps looking, and decides with
its `roster` which of these a node publishes to. The subpackage may import modules of the root only,
and `handshake` also pika, which encodes and decodes AMQP's frames. `nets` uses
`membership.Membership`, which it tells in a `search.Search` what to look for, and the values that
`roster` reports. Users use the first two classes.
"""
