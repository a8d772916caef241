"""The three topic networks of one node, and what a chart does with them.

`nets.MirosNets` is the face that charts and users see. Under it are the node's life (`node`), the
networks (`topic`), the snoops with their terminal, the notices that nodes exchange, the settings,
the statistics, and the guard of miros's registry of signals. May import `amqp`, `discovery`,
`wire`, `delivery` and the modules of the package's root. `chart` uses `nets`, `settings` and
`registry`.
"""
