"""NVIDIA FLARE's client script: every value plus the client's number (`site-3` adds 3)."""

import numpy as np
import nvflare.client as flare


def main() -> None:
    """All rounds."""
    flare.init()
    number = np.float32(flare.get_site_name().rpartition("-")[2])
    while flare.is_running():
        model = flare.receive()
        params = {name: part + number for name, part in model.params.items()}
        flare.send(flare.FLModel(params=params, params_type="FULL", meta={"NUM_STEPS_CURRENT_ROUND": 1}))


if __name__ == "__main__":
    main()
