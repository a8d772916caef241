"""A private RabbitMQ node on a loopback address, for tests, demos and experiments.

`local_broker.LocalBroker` starts, controls and removes a node that shares nothing with a RabbitMQ
that already runs on the machine. `node_files` writes the node's files, and `node_process` runs its
processes. The subpackage may import modules of the root only. Users and the pytest plugin
(``miros_rabbitmq.testing``) use `LocalBroker`, and nothing else from here.
"""
