"""miros's two chart classes, on the network.

`networked` has `NetworkedActiveObject` and `NetworkedFactory`, which own a `nets.nets.MirosNets`;
`fifo` the chart's queue, safe for posts from several threads; `life` decides between starts and
stops that come from several threads. May import `nets` and everything below it. Only the public
names at the root use it.
"""
