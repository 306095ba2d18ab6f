"""`aimle-server demo --split`: a convolutional network runs on a UE, an edge node and in a cloud (TS 23.482 8.14).

`network` is what runs, `cast` are the nodes, three processes that act as slow as such devices and their links, and
`story` is what happens: measure, plan, run, and kill the edge node.
"""

from aimle_server.demo.split.story import main

__all__ = ["main"]
