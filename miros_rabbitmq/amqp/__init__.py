"""Connections to brokers, publishers and consumers: pika stops here.

No other subpackage imports pika, except for the handshake of `discovery`. May import `wire`,
`delivery` and the modules of the package's root. `nets` uses the publishers and consumers
(`publisher`, `consumer`) with their statistics, `topology.Queue`, and `link_state.SessionState`.
"""
