"""Connections to brokers, publishers and consumers: pika stops here.

No other subpackage imports pika, except for the handshake of `discovery`. May import `wire`,
`delivery` and the modules of the package's root. Read it from the bottom up: a `reactor` is a
thread for any number of connections; a `link` is one connection, kept up in a lane of a reactor; a
`sender` or `receiver` uses the channel of a link; `publisher` and `consumer` are the public faces,
each with a reactor to itself (`standalone`). On receipt, `envelopes` asks `bindings` whether a
message came by a way that is ours (`topic_pattern`), and `freshness` whether an event in it is new;
`rejections` counts what is refused, and `paced_log` says it; `queue_claim` holds the name of the
queue. How messages are written and read is `message_io`, in two implementations, `native` and
`plain`.

`nets` uses `reactor.Reactor`, `sender.Sender`, `receiver.Receiver` with `envelopes` and `sinks`,
the values that these take (`parameters.Endpoint`, `link.Role`, `topology.Queue`), and what they
report (`link_state.SessionState`, the statistics, `io_choice.io_name`).
"""
