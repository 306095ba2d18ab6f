"""AIML service operations (TS 23.482 8.20): a VAL server starts and stops operations at AIMLE clients.

An operation is a training of ours (`trainingId`) or a task (`taskId`) that the VAL server runs itself, with
its own addresses for model and updates. STOP of a training at all its clients cancels it; at some of them, the
others go on. STOP may be repeated. The API has no address for status reports, so none are sent.

A client knows a task by an identifier that its VAL server's name is in, so nobody else can stop it.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from aimle_server.hfl.events import Cancelled, Continued, Event, Left
from aimle_server.hfl.objective import StopConditions
from aimle_server.hfl.training import Training
from aimle_server.procedures.client_participation import ClientUnreachable
from aimle_server.procedures.matching import candidate_of
from ml_repository.client_sets import ClientSets
from ml_repository.registrations import Registrations
from ml_repository.trainings import Trainings
from sbi.auth import Caller
from sbi.clock import Clock, from_wire
from sbi.errors import Conflict, InvalidRequest, NotFound, Unavailable
from schemas.common import NO_FEATURES

Wire = Mapping[str, Any]


class DrivenElsewhere(Unavailable):
    """Another server drives this training, or one is about to take it over."""

    def __init__(self, training_id: str) -> None:
        super().__init__("the training is being taken over", retry_after=5)
        self.training_id = training_id


class OperatedClients(Protocol):
    """The way to the clients' Aimlec_AIMLEClientServiceOperations API."""

    async def perform(self, uri: str, body: Wire) -> None:
        """Start or stop an operation at the client at this `aimleClientUri`.

        Raises:
            ClientUnreachable: it did not do it.
        """
        ...


class ServiceOperations:
    """Starts and stops operations.

    Args:
        tell: lets something happen to a training, so that a crash does not undo it; False if this server does not
            drive it.
        server_id: who asks the clients, `aimleServerId`.
    """

    def __init__(
        self,
        registrations: Registrations,
        client_sets: ClientSets,
        trainings: Trainings,
        clients: OperatedClients,
        tell: Callable[[str, Event], Awaitable[bool]],
        clock: Clock,
        new_id: Callable[[], str],
        server_id: str,
    ) -> None:
        self._registrations = registrations
        self._client_sets = client_sets
        self._trainings = trainings
        self._clients = clients
        self._tell = tell
        self._clock = clock
        self._new_id = new_id
        self._server_id = server_id

    async def request(self, caller: Caller, body: Wire) -> dict[str, Any]:
        """Start or stop an operation; the AimlServOperResp.

        Raises:
            InvalidRequest: mode, operation or a client is wrong; NotFound: not the caller's operation or set;
            Conflict: the training has ended; Unavailable: a client cannot be reached.
        """
        mode = body["operMode"]
        if mode not in ("START", "STOP"):
            raise InvalidRequest.of("/operMode", "neither START nor STOP")
        operation = body.get("operId")
        if operation is None:
            if mode == "STOP":
                raise InvalidRequest.of("/operId", "needed to stop an operation")
            operation = {"taskId": self._new_id()}
        clients = await self._named(caller, body)
        if "trainingId" in operation:
            await self._training(caller, operation["trainingId"], frozenset(clients), body)
        else:
            await self._task(_owned(operation["taskId"], caller), clients, body)
        response = {"operId": operation, "operMode": mode}
        if "valSvcId" in body:
            response["valSvcId"] = body["valSvcId"]
        if "suppFeat" in body:
            response["suppFeat"] = NO_FEATURES
        return response

    async def _named(self, caller: Caller, body: Wire) -> Sequence[str]:
        if "clients" in body:
            return list(dict.fromkeys(body["clients"]))
        found = await self._client_sets.get(body["setId"], caller.subject)
        if found is None:
            raise NotFound("there is no such client set", cause="CLIENT_SET_NOT_FOUND")
        return list(found["clients"])

    async def _training(self, caller: Caller, training_id: str, clients: frozenset[str], body: Wire) -> None:
        document = await self._trainings.find(training_id, caller.subject)
        if document is None:
            raise NotFound("there is no such training", cause="TRAINING_NOT_FOUND")
        training = Training.from_document(document)
        if body["operMode"] == "START" and training.terminal:
            raise Conflict(f"the training has ended: {training.state}", cause="TRAINING_ENDED")
        if training.terminal:
            return
        everyone = set(training.participants) or set(training.members)
        event: Event = Left(clients)
        if body["operMode"] == "START":
            modes = body.get("confModes")
            event = Continued(clients, _stop_conditions(modes) if modes else None)
        elif clients >= everyone:
            event = Cancelled("the VAL server stopped the operation")
        if not await self._tell(training_id, event):
            raise DrivenElsewhere(training_id)

    async def _task(self, task_id: str, clients: Sequence[str], body: Wire) -> None:
        """Carry a task's START to every client or to none; STOP goes to those that can be reached."""
        starting = body["operMode"] == "START"
        uris = await self._uris(clients, starting)
        if starting and (absent := [client for client in clients if client not in uris]):
            raise InvalidRequest.of(_pointer(body, absent[0]), f"{absent[0]} is not registered and available")
        failed = await self._perform(uris, self._client_request(task_id, body))
        if starting and failed:
            # Those that failed too: one that answered too late has started.
            await self._perform(uris, self._client_request(task_id, {"operMode": "STOP"}))
            raise Unavailable(f"not started, these clients did not: {', '.join(failed)}")

    async def _perform(self, uris: Mapping[str, str], request: Wire) -> list[str]:
        """Ask all clients at once; returns those that did not do it."""

        async def ask(uri: str) -> bool:
            try:
                await self._clients.perform(uri, request)
            except ClientUnreachable:
                return False
            return True

        done = await asyncio.gather(*map(ask, uris.values()))
        return [client for client, did in zip(uris, done, strict=True) if not did]

    async def _uris(self, clients: Sequence[str], starting: bool) -> dict[str, str]:
        """Where those of the clients are that are registered, and to start something: available now."""
        now = self._clock.now()
        found = await self._registrations.by_client_ids(clients, now)
        uris = {client: _uri(found[client], now, starting) for client in clients if client in found}
        return {client: uri for client, uri in uris.items() if uri is not None}

    def _client_request(self, task_id: str, body: Wire) -> dict[str, Any]:
        """The AimleClientServOpReq: the same things under the other API's names and units."""
        request: dict[str, Any] = {
            "aimleServerId": self._server_id,
            "servOpId": task_id,
            "servOpMode": body["operMode"],
        }
        if "valSvcId" in body:
            request["valServiceId"] = body["valSvcId"]
        if info := body.get("operInfo"):
            request["servOpInfo"] = {
                "mlMdlContainer": info["container"],
                "mlMdlUri": info["fetchUri"],
                "mlMdAggregUri": info["agrUri"],
                "maxConvgTime": info["assitInfo"]["maxConvTime"],
            }
        if configuration := _mode_configuration(body.get("confModes", ()), self._clock.now()):
            request["servOpModeCfg"] = configuration
        return request


def _owned(task_id: str, caller: Caller) -> str:
    """What a task is called at clients; another caller's of the same name, and a training, are called otherwise."""
    return f"{task_id}.{hashlib.sha256(caller.subject.encode()).hexdigest()[:16]}"


def _uri(registration: Wire, now: datetime, starting: bool) -> str | None:
    if not starting:
        return str(registration["regData"]["suppProfiles"][0]["clientProfile"]["aimleClientUri"])
    candidate = candidate_of(registration, None, now)
    return candidate.uri if candidate else None


def _pointer(body: Wire, client: str) -> str:
    return f"/clients/{body['clients'].index(client)}" if "clients" in body else "/setId"


def _stopping(modes: Sequence[Wire]) -> dict[str, Any]:
    """The measurements whose thresholds stop the operation, of all the modes together."""
    return {
        name: value
        for mode in modes
        if mode["mode"] == "STOP"
        for name, value in mode["measThrValues"].items()
    }


def _stop_conditions(modes: Sequence[Wire]) -> StopConditions:
    """What this server watches in a training: a moment and an accuracy (in per cent on the wire)."""
    values = _stopping(modes)
    return StopConditions(
        accuracy=values["accuracy"] / 100 if "accuracy" in values else None,
        at=from_wire(values["time"]) if "time" in values else None,
    )


def _mode_configuration(modes: Sequence[Wire], now: datetime) -> dict[str, Any]:
    """What a client watches: latency in ms, whole hours from now, accuracy in per cent."""
    values = _stopping(modes)
    configuration: dict[str, Any] = {}
    if "latency" in values:
        configuration["maxLatency"] = values["latency"]
    if "time" in values:
        hours = (from_wire(values["time"]) - now).total_seconds() / 3600
        configuration["maxDurHour"] = max(0, math.ceil(hours))
    if "accuracy" in values:
        configuration["modelAccuracy"] = values["accuracy"]
    return configuration
