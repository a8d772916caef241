"""miros's two chart classes, on the network.

`networked` has `NetworkedActiveObject` and `NetworkedFactory`; each owns a `nets.nets.MirosNets`.
`fifo` is the chart's queue, safe for posts from several threads; `deferred` has the events that it
has deferred, and `timers` what posts events later. `life` decides between starts and stops that
several threads ask for. `handling` shows what a chart is doing. `overrides` checks which names a
subclass takes. The modules may import `nets` and everything below it. Only the public names at the
root use this subpackage.
"""
