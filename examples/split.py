"""A neural network in parts on two nodes: stored, run and used (needs the extra `split`).

    python split.py node URL edge-1 SECRET 9101
    python split.py node URL edge-2 SECRET 9102
    python split.py application URL val-vision SECRET model.onnx http://127.0.0.1:9101 http://127.0.0.1:9102

Secrets are of `aimle-server token add edge-1 --role node` and `token add val-vision --role application`. The model is
yours: any ONNX file of one input without control flow. Everything is on one machine here, whose server was started with
`aimle-server run --targets-allow 127.0.0.0/8`: otherwise it refuses to call loopback.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime

from aimle_client.errors import Conflict
from aimle_client.http import ClientCredentials
from aimle_client.split.node import ProcessingNode
from aimle_client.val import ValServer

MODEL = "network"


async def node(url: str, name: str, secret: str, port: str) -> None:
    """Run parts of the model until Ctrl-C."""
    credentials = ClientCredentials(name, secret)
    listen = ("127.0.0.1", int(port))
    async with ProcessingNode(url, models=[MODEL], credentials=credentials, listen=listen) as running:
        print(f"{name} waits for parts at {running.uri}", flush=True)
        await running.run_forever()


async def application(url: str, name: str, secret: str, file: str, *nodes: str) -> None:
    """Store the model, have the nodes run it together, and compare with the model in one piece."""
    whole = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    [declared] = whole.get_inputs()
    shape = [length if isinstance(length, int) else 1 for length in declared.shape]
    frames = [{declared.name: np.random.default_rng(n).random(shape, np.float32)} for n in range(100)]
    async with ValServer(url, ClientCredentials(name, secret), listen=("127.0.0.1", 0)) as val:
        try:
            await val.store_model(MODEL, Path(file), info={"interopInfo": "ONNX"})
        except Conflict:
            print(f"{MODEL} is stored already")
        pipeline = await val.create_pipeline(MODEL, nodes, in_order=True)
        await pipeline.until_ready()
        for part in pipeline.profile["aimle"]["execution"]["parts"]:
            print(f"{part['node']} gives {', '.join(part['gives'])}")
        async with pipeline.open() as stream:
            results = [result async for result in stream.map(frames)]
        await pipeline.delete()
    names = [output.name for output in whole.get_outputs()]
    expected = [whole.run(names, frame) for frame in frames]
    worst = max(
        float(np.abs(result[name] - values).max())
        for result, wanted in zip(results, expected, strict=True)
        for name, values in zip(names, wanted, strict=True)
    )
    print(f"{len(results)} frames; at most {worst:.1e} from the model in one piece")


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        asyncio.run({"node": node, "application": application}[role](*arguments))
