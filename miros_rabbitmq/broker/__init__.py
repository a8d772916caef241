"""A private RabbitMQ node on a loopback address, for tests, demos and experiments.

`local_broker.LocalBroker` starts, controls and removes a node that shares nothing with a RabbitMQ
that already runs on the machine; the other modules write its files and run its process. May import
the root's modules only. The pytest plugin (``miros_rabbitmq.testing``) and users use `LocalBroker`.
"""
