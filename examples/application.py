"""An application that has the devices of `device.py` learn digits together, up to an accuracy.

    aimle-server token add val-digits --scope aimles-sel aimles-trn mlr-mlmm aimle-artifacts aimle-hfl
    python examples/application.py http://127.0.0.1:8080 val-digits SECRET 0.9

Start two devices or more before. The test images, share 0, are on none of them.
"""

import asyncio
import sys
from datetime import datetime

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from aimle_client.errors import AimleClientError
from aimle_client.trainers.base import Dataset
from aimle_client.trainers.sklearn import SklearnTrainer
from aimle_client.val import ClientCredentials, Objective, TrainingProfile, ValServer, discovery_criteria


async def main(server: str, client_id: str, secret: str, target: str) -> None:
    """Choose devices, train, and try the result."""
    images, digits = load_digits(return_X_y=True)
    test = Dataset(images[::10] / 16, digits[::10])
    trainer = SklearnTrainer(SGDClassifier(loss="log_loss"), test, test, classes=range(10))
    model_id = f"digits-{datetime.now():%Y%m%d-%H%M%S}"  # unique in the repository

    # `listen` is where the server tells how it goes; for one elsewhere, callback_url says how it gets here.
    async with ValServer(server, ClientCredentials(client_id, secret), listen=("127.0.0.1", 0)) as val:
        chosen = await val.select(discovery_criteria("val-digits", datasets=["digits"]), min_num=2)
        print(f"{len(chosen.clients)} devices take part: {', '.join(chosen.clients)}")
        await val.store_model(model_id, trainer.initial_parameters(), services=["val-digits"])
        training = await val.train(
            model_id=model_id,
            client_set=chosen.client_set,
            dataset_ids=["digits"],
            objective=Objective(target=float(target), max_epochs=100),
            profile=TrainingProfile(local_epochs=2, learning_rate=0.05),
        )
        async for event in training.events():
            if "accuracy" in event.metrics:
                print(f"round {event.evaluated_round}: accuracy {event.metrics['accuracy']:.3f}", flush=True)
        print(f"{event.state}: {event.reason}")
        if event.output_model_id is None:
            sys.exit(1)
        parameters = await val.download_model(event.output_model_id)
    print(f"accuracy on the test images: {trainer.evaluate(parameters).metrics['accuracy']:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except AimleClientError as error:  # e.g. Forbidden, NOT_ENOUGH_CLIENTS: too few devices have registered
        sys.exit(f"{error}")
