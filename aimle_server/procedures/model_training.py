"""ML model training (TS 23.482 8.3): a VAL server's request becomes a training, or a refusal that names why.

The schema asks for `trnType` and `datasetId` only; what 8.3.3.1 demands beyond that is checked here. The model
that the training makes is a new one, based on the one it begins with; it is in the repository, in training,
from the start.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from aimle_server.hfl.objective import METRIC_OF, Objective
from aimle_server.hfl.seats import MOST_PARTICIPANTS
from aimle_server.hfl.training import QuorumRule, Training
from aimle_server.procedures.schedule import OperationalSchedule
from aimle_server.settings import Hfl
from ml_repository.client_sets import ClientSets
from ml_repository.database import Session
from ml_repository.model_artifacts import ModelArtifacts
from ml_repository.model_discovery import ModelDiscovery
from ml_repository.model_record import StoredModel
from ml_repository.models import Models, in_training
from ml_repository.trainings import TrainingProfiles
from sbi.auth import Caller
from sbi.clock import from_wire
from sbi.errors import Forbidden, InvalidRequest, NotFound, NotSupported
from schemas.hfl_management import TrainingProfile

_PROFILE = TrainingProfile()

Reserve = Callable[[Session], Awaitable[None]]
"""Makes the place for a training's result."""


class FirstModel(NamedTuple):
    """The model that a training begins with: its id, its profile if it is known here, its address if not."""

    model_id: str
    stored: StoredModel | None
    uri: str | None


class ModelTraining:
    """Takes training requests.

    Args:
        begin: stores a training together with the place for its result, and drives it.
        check_uri: raises ValueError for an address that must not be called.
        new_id: makes identifiers.
        defaults: settings for what request and profile leave open.
    """

    def __init__(
        self,
        models: Models,
        discovery: ModelDiscovery,
        client_sets: ClientSets,
        profiles: TrainingProfiles,
        outputs: ModelArtifacts,
        begin: Callable[[Training, Reserve], Awaitable[None]],
        check_uri: Callable[[str], None],
        new_id: Callable[[], str],
        defaults: Hfl,
    ) -> None:
        self._models = models
        self._discovery = discovery
        self._client_sets = client_sets
        self._profiles = profiles
        self._outputs = outputs
        self._begin = begin
        self._check_uri = check_uri
        self._new_id = new_id
        self._defaults = defaults

    async def request(
        self, caller: Caller, body: Mapping[str, Any], profile: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Begin a training; the MlModelTrainResp. `profile` counts where the caller has put none for the model.

        Raises:
            InvalidRequest: attributes are missing or contradict each other; NotSupported: vertical FL;
            NotFound, Conflict, Forbidden: the model is not there, in training, or not for training.
        """
        training, base = await self._plan(caller, body, profile)
        reserve = partial(self._outputs.reserve, caller.subject, base, training.output_model_id)
        await self._begin(training, reserve)
        return {"trainingId": training.training_id, "modelId": training.model_id}

    async def _plan(
        self, caller: Caller, body: Mapping[str, Any], otherwise: Mapping[str, Any] | None
    ) -> tuple[Training, StoredModel | None]:
        """The training that a request asks for, and the model that it begins with if that is known here."""
        _check_type(body)
        self._check(body)
        members = await self._members(caller, body)
        wanted = body.get("numReqClients")
        if wanted is not None and "memSelCrit" not in body and wanted > len(members):
            raise InvalidRequest.of("/numReqClients", "more than the members that are named")
        first = await self._first_model(caller, body)
        profile = await self._profile(caller, first.model_id, otherwise)
        training_id = self._new_id()
        training = Training(
            training_id=training_id,
            owner=caller.subject,
            request=body,
            profile=profile,
            service_id=await self._service_id(caller, body, first),
            model_id=first.model_id,
            output_model_id=f"{first.model_id}.{training_id}",
            objective=_objective(body, profile["localEpochs"], self._defaults.max_rounds),
            model_uri=first.uri,
            members=members,
            quorum=QuorumRule(
                wanted,
                profile["minReports"],
                max_offences=self._defaults.max_offences,
                round_timeout=profile["roundTimeout"],
            ),
        )
        return training, first.stored

    def _check(self, body: Mapping[str, Any]) -> None:
        """What Table 8.3.3.1-1 and its notes demand, and TS 29.482 6.1.8.6.2.2 and 6.1.8.6.2.4."""
        if not {"members", "clientSetId", "memSelCrit"} & body.keys():
            raise InvalidRequest.of("/members", "one of members, clientSetId and memSelCrit is needed")
        if body.get("memSelCrit") == {}:
            raise InvalidRequest.of("/memSelCrit", "at least one criterion is needed")
        if body.get("memUpdNotif") and "notifUri" not in body:
            raise InvalidRequest.of("/notifUri", "needed for member updates (memUpdNotif)")
        if {"members", "clientSetId"} <= body.keys():
            raise InvalidRequest.of("/clientSetId", "members are named already")
        if not 1 <= body.get("numReqClients", 1) <= MOST_PARTICIPANTS:
            raise InvalidRequest.of("/numReqClients", f"is not between 1 and {MOST_PARTICIPANTS}")
        _check_window(body.get("memSelCrit", {}).get("clientAvailability"))
        if body.get("dataSamples") == 0:
            raise InvalidRequest.of("/dataSamples", "at least one sample is needed")
        if not {"modelInf", "modelReq"} & body.keys():
            raise InvalidRequest.of("/modelInf", "one of modelInf and modelReq is needed")
        OperationalSchedule.of_request(body)
        for pointer, uri in (("/notifUri", body.get("notifUri")), ("/modelInf/mlModelLoc", _location(body))):
            self._check_target(pointer, uri)

    def _check_target(self, pointer: str, uri: str | None) -> None:
        try:
            if uri is not None:
                self._check_uri(uri)
        except ValueError as error:
            raise InvalidRequest.of(pointer, str(error)) from error

    async def _members(self, caller: Caller, body: Mapping[str, Any]) -> tuple[str, ...]:
        if set_id := body.get("clientSetId"):
            return tuple((await self._client_set(caller, set_id))["clients"])
        return tuple(dict.fromkeys(body.get("members", ())))

    async def _client_set(self, caller: Caller, set_id: str) -> Mapping[str, Any]:
        found = await self._client_sets.get(set_id, caller.subject)
        if found is None:
            raise NotFound("there is no such client set", cause="CLIENT_SET_NOT_FOUND")
        return found

    async def _service_id(self, caller: Caller, body: Mapping[str, Any], first: FirstModel) -> str:
        """The VAL service: of the client set, else of the model, else the VAL server itself."""
        if set_id := body.get("clientSetId"):
            request = (await self._client_set(caller, set_id))["request"]
            criteria = request.get("selCriteria", {}).get("serviceReq", {})
            if service := request.get("valSvcId") or criteria.get("valServId"):
                return str(service)
        services = first.stored.info.get("valServiceIds", ()) if first.stored else ()
        return services[0] if services else caller.subject

    async def _first_model(self, caller: Caller, body: Mapping[str, Any]) -> FirstModel:
        info = body.get("modelInf", {})
        location = _location(body)
        if "modelInf" in body and "mlModelId" not in info and location is None:
            raise InvalidRequest.of("/modelInf/mlModelId", "one of mlModelId and mlModelLoc is needed")
        if location is not None:
            return FirstModel(info.get("mlModelId", "model"), None, location)
        if "mlModelId" in info:
            return _trainable(await self._models.accessible(caller, info["mlModelId"]))
        return await self._fitting_model(caller, body["modelReq"])

    async def _fitting_model(self, caller: Caller, requirements: Mapping[str, Any]) -> FirstModel:
        """The newest model that meets the requirements and can be trained (8.3.2 step 2, 8.11.3)."""
        found = await self._discovery.find(caller, requirements)
        usable = [model for model in found if _usable(model)]
        if usable:
            return _trainable(max(usable, key=lambda model: (model.stored, model.id)))
        if training := next((model for model in found if model.in_training), None):
            raise in_training(training.id)
        raise NotFound("no model that can be trained meets modelReq", cause="ML_MODEL_NOT_FOUND")

    async def _profile(
        self, caller: Caller, model_id: str, otherwise: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        found = await self._profiles.find(caller.subject, model_id)
        own = {"roundTimeout": self._defaults.round_timeout, "minReports": self._defaults.min_reports}
        return {**own, **(found or otherwise or _PROFILE.load({}))}


def _check_type(body: Mapping[str, Any]) -> None:
    kind = body["trnType"]
    if kind == "TRAIN_VFL":
        parameters = body.get("vflParam", {})
        for name in ("datasetComm", "featureList"):
            if name not in parameters:
                raise InvalidRequest.of(f"/vflParam/{name}", "needed for vertical FL")
        raise NotSupported("vertical FL is not supported yet")
    if kind != "TRAIN_HFL":
        raise InvalidRequest.of("/trnType", "neither TRAIN_HFL nor TRAIN_VFL")


def _objective(body: Mapping[str, Any], local_epochs: int, max_rounds: int) -> Objective:
    wire = body.get("trainObj")
    if wire and wire["objType"] not in METRIC_OF:
        raise InvalidRequest.of("/trainObj/objType", f"not one of {', '.join(METRIC_OF)}")
    if wire and wire.get("maxEpochs") == 0:
        raise InvalidRequest.of("/trainObj/maxEpochs", "at least one epoch is needed")
    return Objective.of_request(wire, local_epochs, max_rounds)


def _check_window(window: Mapping[str, Any] | None) -> None:
    if window and from_wire(window["stopTime"]) <= from_wire(window["startTime"]):
        raise InvalidRequest.of("/memSelCrit/clientAvailability/stopTime", "is not after startTime")


def _location(body: Mapping[str, Any]) -> str | None:
    """`mlModelLoc` as a URL; an FQDN or bare address names no file and is not taken."""
    endpoint = body.get("modelInf", {}).get("mlModelLoc")
    if endpoint is None:
        return None
    if "uri" not in endpoint:
        raise InvalidRequest.of("/modelInf/mlModelLoc/uri", "the model's file is fetched from a URI")
    return str(endpoint["uri"])


def _usable(model: StoredModel) -> bool:
    return model.retrievable and _for_training(model) and not (model.hosted and model.onnx)


def _for_training(model: StoredModel) -> bool:
    usages = model.info.get("usageReqs", {}).get("usages", ())
    return not usages or "TRAINING" in usages


def _trainable(model: StoredModel) -> FirstModel:
    """The model as a beginning, or the reason why it cannot be one."""
    if model.in_training:
        raise in_training(model.id)
    if not _for_training(model):
        raise Forbidden(f"the usages of model {model.id} do not include TRAINING", cause="ML_MODEL_USAGE")
    if not model.retrievable:
        raise InvalidRequest.of("/modelInf/mlModelId", "the model has no bytes yet")
    if model.hosted and model.onnx:
        raise InvalidRequest.of("/modelInf/mlModelId", "an ONNX model cannot be trained")
    elsewhere = None if model.hosted else model.endpoint("").get("uri")
    if not model.hosted and elsewhere is None:
        raise InvalidRequest.of("/modelInf/mlModelId", "the model's mlModelUri is not a URI")
    return FirstModel(model.id, model, elsewhere)
