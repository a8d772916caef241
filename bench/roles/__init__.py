"""The processes of the benchmark: each plays one part, and reports on its output.

Run as ``python -m bench.roles.MODULE ROLE`` with the arguments as JSON on standard input. A role
says ``ready`` when it can take part; what it measured is the last line, as JSON.

All peers do the same: persistent messages, durable queues, publisher confirms, manual
acknowledgement; requests go through one broker and the answers through the other.
"""
