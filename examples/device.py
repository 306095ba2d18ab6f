"""A device that trains on its own share of scikit-learn's handwritten digits, until Ctrl-C.

    aimle-server run --targets-allow 127.0.0.0/8         # a server may call devices on its own machine only if told so
    aimle-server token add ue-1 --scope aimles-client-reg                  # prints the secret of this device
    python examples/device.py http://127.0.0.1:8080 ue-1 SECRET 1

The last argument is the number of the share, 1 to 9: each device needs another, and an identifier of its own.
"""

import asyncio
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from aimle_client.errors import AimleClientError
from aimle_client.trainers.base import Dataset
from aimle_client.trainers.sklearn import SklearnTrainer
from aimle_client.ue import AimleClient, ClientCredentials, DatasetOffer, RoundReport


def my_trainer(share: int) -> tuple[SklearnTrainer, int]:
    """What learns here, and from how many images; every fifth one is kept for measuring."""
    images, digits = load_digits(return_X_y=True)
    images, digits = images[share::10] / 16, digits[share::10]
    kept = np.arange(len(digits)) % 5 == 0
    train, test = Dataset(images[~kept], digits[~kept]), Dataset(images[kept], digits[kept])
    return SklearnTrainer(SGDClassifier(loss="log_loss"), train, test, classes=range(10)), len(images)


def show(report: RoundReport) -> None:
    """Called whenever a round has ended here."""
    accuracy = report.metrics.get("accuracy", float("nan"))
    print(
        f"round {report.round}: {report.outcome}, accuracy so far {accuracy:.3f} {report.reason}", flush=True
    )


async def main(server: str, client_id: str, secret: str, share: str) -> None:
    """Register, and do what the server asks for."""
    trainer, size = my_trainer(int(share))
    client = AimleClient(
        client_id,
        server,
        credentials=ClientCredentials(client_id, secret),
        services=["val-digits"],  # the application that this device works for
        datasets={"digits": DatasetOffer(trainer, size=size)},
        # For a server on another machine: listen=("0.0.0.0", 9007), public_url="http://this-device.example:9007"
    )
    client.on_round(show)
    async with client:  # registered in here, and deregistered at the end
        print(f"{client_id} waits for work at {client.status.uri}", flush=True)
        await client.run_forever()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except AimleClientError as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        pass
