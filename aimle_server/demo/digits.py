"""The demonstration's data: scikit-learn's handwritten digits, dealt to clients unevenly.

1,797 images of 8 x 8 pixels, 10 classes; they come with the package. A fifth is held out for the end. The rest
is dealt by a Dirichlet distribution per class (alpha 0.5): each client has much of some digits and little of
others, as devices in the field do.
"""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from aimle_client.trainers.base import Dataset

CLASSES = 10
PIXELS = 64
ALPHA = 0.5
LEAST = 40
"""Samples that every client has at least; a deal that leaves one with less is dealt again."""

Indices = npt.NDArray[np.intp]


def held_out_and_shares(clients: int, seed: int) -> tuple[Dataset, list[Dataset]]:
    """The test set, and each client's share; the same for the same seed."""
    inputs, labels = load_digits(return_X_y=True)
    data = Dataset((inputs / 16).astype(np.float32), labels)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data))
    test, rest = np.split(order, [len(data) // 5])
    return _subset(data, test), [_subset(data, share) for share in _deal(rest, labels, clients, rng)]


def split(share: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """A client's share as what it trains on and the fifth that it evaluates on."""
    order = np.random.default_rng(seed).permutation(len(share))
    evaluation, training = np.split(order, [max(1, len(share) // 5)])
    return _subset(share, training), _subset(share, evaluation)


def _deal(indices: Indices, labels: Indices, clients: int, rng: np.random.Generator) -> list[Indices]:
    while True:
        hands: list[list[Indices]] = [[] for _ in range(clients)]
        for label in range(CLASSES):
            of_class = indices[labels[indices] == label]
            cuts = (np.cumsum(rng.dirichlet([ALPHA] * clients))[:-1] * len(of_class)).astype(int)
            for hand, part in zip(hands, np.split(of_class, cuts), strict=True):
                hand.append(part)
        shares = [np.concatenate(hand) for hand in hands]
        if min(map(len, shares)) >= LEAST:
            return shares


def _subset(data: Dataset, indices: Indices) -> Dataset:
    return Dataset(data.inputs[indices], data.targets[indices])
