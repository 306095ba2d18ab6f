"""`aimle-server demo`: the whole way of TS 23.482, on one machine and over real HTTP (needs the extra `demo`).

A server process with its embedded database and authentication, ten AIMLE client processes that hold uneven shares
of scikit-learn's handwritten digits, and one VAL server (this process), which has a model trained by horizontal
federated learning. `digits` is the data, `ue` a client's process, `story` what the VAL server does. `transfer` is
another story on the same stage: a training that moves from one client to another.
"""
