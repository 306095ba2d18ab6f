"""How much this machine has to do, as its operating system measures it."""

import os


def machine_load() -> int | None:
    """In per cent of its processors, 100 at most: the mean of the last minute; None where no system says so."""
    try:
        processes, _, _ = os.getloadavg()
    except (AttributeError, OSError):  # Windows has none; elsewhere it may be hidden
        return None
    return min(round(100 * processes / (os.cpu_count() or 1)), 100)
