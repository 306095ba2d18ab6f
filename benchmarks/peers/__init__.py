"""What runs inside the peers' environments: each script does one session and prints one line of JSON.

    {"round_seconds": [...], "peak_rss_bytes": ...}

The time from the start of each round to that of the next, as the peer's server sees it, and the memory of its
server side. In every session, as in ours, client n adds n to every float32 value of the model with one sample, the
server averages, nobody evaluates, and the result is checked: after r rounds every value is r * (clients + 1) / 2,
to the accuracy of float32 sums.
"""
