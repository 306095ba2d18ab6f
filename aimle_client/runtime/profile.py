"""What a client registers with: AimleClientRegInfo (TS 24.560; TS 23.482 8.7), from what the application says."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aimle_client.trainers.base import Trainer
from schemas.base import merge_patch

_STANDARD = "STANDARD_RESOURCE_USAGE"


@dataclass(frozen=True)
class DatasetOffer:
    """A data set that the client offers for training.

    Attributes:
        trainer: trains and evaluates on it.
        size: number of its entries; None: not told.
        features: names of its features; empty: not told.
    """

    trainer: Trainer
    size: int | None = None
    features: tuple[str, ...] = ()


def registration_document(
    client_id: str,
    uri: str,
    services: Iterable[str] | Mapping[str, str],
    datasets: Mapping[str, DatasetOffer],
    changes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The AimleClientRegInfo of a client.

    Args:
        uri: apiRoot under which the client is reached.
        services: the VAL services it works for; a mapping gives each its `servPermLevel`.
        datasets: by their identifiers.
        changes: merge patch (RFC 7396) on the AimleClientProfile that comes of all this.
    """
    profile: dict[str, Any] = {
        "aimleClientUri": uri,
        "aimlModelTypes": ["NEURAL_NETWORK"],
        "aimlOperations": ["MODEL_TRAINING"],
        "clientCap": {"mlAppType": "FEDERATED_LEARNING", "rsrcUsageLvl": _STANDARD},
    }
    if datasets:
        profile["dataSetAvail"] = _availability(datasets)
    supported: dict[str, Any] = {"clientProfile": merge_patch(profile, changes or {})}
    levels = services if isinstance(services, Mapping) else dict.fromkeys(services, _STANDARD)
    if levels:
        supported["suppServices"] = [
            {"valServiceId": service, "servPermLevel": level} for service, level in levels.items()
        ]
    return {"aimleClientId": {"valUeId": client_id}, "suppProfiles": [supported]}


def _availability(datasets: Mapping[str, DatasetOffer]) -> dict[str, Any]:
    """DataSetAvailability: all data sets together, for the type has one size and one list of features."""
    availability: dict[str, Any] = {"dataSetIds": sorted(datasets)}
    sizes = [offer.size for offer in datasets.values() if offer.size is not None]
    features = sorted({name for offer in datasets.values() for name in offer.features})
    if sizes:
        availability["size"] = sum(sizes)
    if features:
        availability["features"] = features
    return availability
