"""ML model information discovery (TS 23.482 8.11.3, TS 29.482 6.2.2): which stored models meet a filter."""

from collections.abc import Mapping
from typing import Any

from ml_repository.model_access import disclosed, matches
from ml_repository.model_record import StoredModel
from ml_repository.models import Models
from sbi.auth import Caller
from sbi.errors import NotFound


class ModelDiscovery:
    """Finds models for whoever may have them."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def find(self, caller: Caller, criteria: Mapping[str, Any]) -> list[StoredModel]:
        """The models that `caller` may have and that meet `criteria` (MLModel), in training or not, by id.

        A filter sees of a model what its caller may see, so that nothing hidden can be guessed with it.
        """
        candidates = await self._models.candidates(caller, criteria)
        return [model for model in candidates if matches(criteria, disclosed(model, caller))]

    async def discover(self, caller: Caller, criteria: Mapping[str, Any], api_root: str) -> dict[str, Any]:
        """DiscoveryResp with the profiles found.

        A model that cannot be downloaded now, because it is in training or has no bytes yet, is shown without
        mlModelUri; its phase says which. `indicator` is left out: each profile has its own contTrainInd.

        Raises:
            NotFound: nothing found; an empty DiscoveryResp would not be valid.
        """
        found = await self.find(caller, criteria)
        if not found:
            raise NotFound("no model meets filt-criteria", cause="ML_MODEL_NOT_FOUND")
        return {"profiles": [_profile(model, caller, api_root) for model in found]}


def _profile(model: StoredModel, caller: Caller, api_root: str) -> dict[str, Any]:
    profile = {**model.wire(api_root), "mlModelInfo": disclosed(model, caller)}
    if not model.retrievable:
        del profile["mlModelUri"]
    return profile
