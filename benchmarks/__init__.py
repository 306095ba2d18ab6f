"""The benchmark set: `make bench`, or `python -m benchmarks NAME...` for a part of it.

    rounds         HFL rounds and the server's memory, against Flower and NVIDIA FLARE
    intake         bytes per second of updates taken in, against a bare handler that discards them
    aggregation    the arithmetic of FedAvg, against NumPy's copy of the same bytes
    requests       registration, discovery, selection, against bare handlers with the same database operations
    discovery      latency with up to 100,000 registered clients
    notifications  fan-out to 5,000 subscribers, against a bare client
    startup        from a training's request to its first round
    reduction      bytes and accuracy of reduced updates, on the demonstration's digits
    pipelines      planning a split, and frames through a node, against a bare WebSocket

`measure` alternates the two sides of a comparison, `report` writes what came out. `server`, `client`, `bare` and
`load` are the processes and requests of the measurements; `peers/` runs inside the peers' own environments.
"""
