"""ML model retrieval (TS 23.482 8.2.2.2): models that meet a filter, for whoever may and can use them.

The rules of the filter and of access are those of the repository (`ml_repository.model_access`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_record import StoredModel
from sbi.auth import Caller
from sbi.errors import Conflict, NotFound

RegistrationOf = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""The AimleClientRegInfo of the AIMLE client that a subject has registered; None: it has registered none."""

OPERATION_FOR = {"TRAINING": "MODEL_TRAINING", "INFERENCE": "MODEL_INFERENCE"}
"""What an AIMLE client must be able to do (AimlOperation) for a use of a model (MLModelUsage)."""

_ANY: Mapping[str, Any] = {}


class ModelRetrieval:
    """Answers one-time requests for models."""

    def __init__(self, discovery: ModelDiscovery, registration_of: RegistrationOf) -> None:
        self._discovery = discovery
        self._registration_of = registration_of

    async def retrieve(
        self, caller: Caller, criteria: Mapping[str, Any] | None, api_root: str
    ) -> dict[str, Any]:
        """MLMdlRetRsp with the endpoint of every model that meets `criteria` (MLModel; None: any).

        Raises:
            Conflict: all that would do are in training now (cause MODEL_IN_TRAINING).
            NotFound: nothing would do, or only models without bytes (cause ML_MODEL_NOT_FOUND).
        """
        found = await self.suitable(caller, criteria or _ANY)
        ready = [model for model in found if model.retrievable]
        if ready:
            return {
                "mlModels": [
                    {"mlModelId": model.id, "mlMdlEndpoint": model.endpoint(api_root)} for model in ready
                ]
            }
        if any(model.in_training for model in found):
            raise Conflict("every model that meets modelSelCrit is in training", cause="MODEL_IN_TRAINING")
        raise NotFound("no model meets modelSelCrit", cause="ML_MODEL_NOT_FOUND")

    async def suitable(self, caller: Caller, criteria: Mapping[str, Any]) -> list[StoredModel]:
        """The models that meet `criteria` and that the caller may have and can use, whether or not they are ready."""
        found = await self._discovery.find(caller, criteria)
        registration = await self._registration_of(caller.subject) if found else None
        if registration is None:
            return found
        return [model for model in found if suits(model.info, registration)]


def suits(model: Mapping[str, Any], registration: Mapping[str, Any]) -> bool:
    """Whether a registered AIMLE client can use a model (MLModel; AimleClientRegInfo).

    One of its profiles must do one of the operations that the model's usages need, and be for one of the
    model's VAL services; a model that names no usages or no services asks for none. An MLModel does not say
    of which type it is, so aimlModelTypes cannot narrow.
    """
    return any(_profile_suits(model, profile) for profile in registration["suppProfiles"])


def _profile_suits(model: Mapping[str, Any], profile: Mapping[str, Any]) -> bool:
    usages = model.get("usageReqs", {}).get("usages", ())
    services = model.get("valServiceIds", ())
    able = set(profile["clientProfile"]["aimlOperations"])
    served = {service["valServiceId"] for service in profile["suppServices"]}
    return (not usages or any(OPERATION_FOR.get(usage) in able for usage in usages)) and (
        not services or not served.isdisjoint(services)
    )
