"""AIMLE clients: find them, have them selected, start and stop operations at them (TS 23.482 8.8, 8.9, 8.20)."""

from collections.abc import Sequence
from typing import Any

from aimle_client.answers import read
from aimle_client.errors import UnexpectedAnswer
from aimle_client.val.calls import Calls, as_query
from aimle_client.val.checks import texts
from aimle_client.val.values import (
    ClientSet,
    DiscoveredClients,
    OperationInfo,
    ServiceOperation,
    StopWhen,
    Wire,
    given,
)
from schemas.client_discovery import ClientDiscResp
from schemas.client_selection import ClientSelResp
from schemas.service_operations import AimlServOperResp


class ClientOperations(Calls):
    """Operations that concern AIMLE clients."""

    async def discover(self, criteria: Wire, number: int | None = None) -> DiscoveredClients:
        """Find the AIMLE clients that fulfil criteria (AIMLES_AIMLEClientDiscovery, TS 23.482 8.8).

        Args:
            criteria: ClientDiscCriteria; see `discovery_criteria`.
            number: `cl-number`, how many are wanted at most.

        Raises:
            RequestRefused: 400, the criteria are wrong; `invalid_params` says where.
        """
        query = {"filt-criteria": as_query(criteria)}
        if number is not None:
            query["cl-number"] = str(number)
        answer = await self._connection.request("GET", "/aimles-disc/v1/clients", query=query)
        found = read(ClientDiscResp(), answer.body)
        return DiscoveredClients(
            tuple(found["clients"]), tuple(found.get("suppTasks", ())), found.get("edgeAimleSs", {})
        )

    async def select(
        self,
        criteria: Wire | None = None,
        *,
        clients: Sequence[str] | None = None,
        service: str | None = None,
        req_num: int | None = None,
        min_num: int | None = None,
    ) -> ClientSet:
        """Have AIMLE clients asked whether they take part, and form a set of them (TS 23.482 8.9).

        One of `criteria` and `clients` is given. Takes as long as the clients need to answer, some seconds.

        Args:
            criteria: `selCriteria`, a ClientDiscCriteria: the server chooses.
            clients: AIMLE client identifiers: these are asked.
            service: `valSvcId`, the VAL service.
            req_num: `reqNum`, how many are wanted; with `criteria` only. None: all that fulfil them.
            min_num: `minNum`, with how few there still is a set.

        Raises:
            Forbidden: fewer than `min_num` agreed (cause NOT_ENOUGH_CLIENTS).
            RequestRefused: 400, the request is wrong.
            ValueError: both or neither of `criteria` and `clients`, or `req_num` without `criteria`.
        """
        if (criteria is None) == (clients is None):
            raise ValueError("criteria, clients: one of the two says who is asked")
        if req_num is not None and criteria is None:
            raise ValueError("req_num: goes with criteria; clients that are named are all asked")
        body = given(
            selCriteria=criteria,
            clients=None if clients is None else texts("clients", clients),
            valSvcId=service,
            reqNum=req_num,
            minNum=min_num,
        )
        answer = await self._connection.request("POST", "/aimles-sel/v1/select", body=body)
        selected = read(ClientSelResp(), answer.body)
        if "clientSet" not in selected:
            raise UnexpectedAnswer("the answer names no client set")
        return ClientSet(selected["clientSet"], tuple(selected.get("clients", ())))

    async def start_operation(
        self,
        *,
        clients: Sequence[str] | None = None,
        client_set: str | None = None,
        training_id: str | None = None,
        task_id: str | None = None,
        info: OperationInfo | None = None,
        stop_when: Sequence[StopWhen] = (),
        service: str | None = None,
    ) -> ServiceOperation:
        """START an operation (AIMLES_AIMLEServiceOperationsManagement, TS 23.482 8.20).

        Args:
            clients: at these AIMLE clients; or
            client_set: at those of this set.
            training_id: have a training go on with them; or
            task_id: start this task of the VAL server's own; neither: the server names a new task.
            info: what a task runs.
            stop_when: conditions under which it stops by itself.
            service: `valSvcId`.

        Raises:
            NotFound: not this VAL server's training or set.
            Conflict: the training has ended.
            RequestRefused: 400, e.g. a client that is not registered.
            ServerUnavailable: a client of a task could not be reached; it is started nowhere.
        """
        modes = [condition.to_wire() for condition in stop_when]
        body = _target(clients, client_set) | given(
            operInfo=info and info.to_wire(), confModes=modes or None, valSvcId=service
        )
        return await self._operate("START", body, training_id, task_id)

    async def stop_operation(
        self,
        *,
        clients: Sequence[str] | None = None,
        client_set: str | None = None,
        training_id: str | None = None,
        task_id: str | None = None,
    ) -> ServiceOperation:
        """STOP an operation; may be repeated. A training that is stopped at all its clients is cancelled.

        Args:
            clients, client_set: where, one of the two.
            training_id, task_id: what, one of the two.

        Raises:
            NotFound: not this VAL server's training or set.
        """
        return await self._operate("STOP", _target(clients, client_set), training_id, task_id)

    async def _operate(
        self, mode: str, body: dict[str, Any], training_id: str | None, task_id: str | None
    ) -> ServiceOperation:
        operation = given(trainingId=training_id, taskId=task_id)
        if operation:
            body["operId"] = operation
        answer = await self._connection.request(
            "POST", "/aimles-opm/v1/request", body=body | {"operMode": mode}
        )
        done = read(AimlServOperResp(), answer.body)
        return ServiceOperation(
            done["operMode"], done["operId"].get("trainingId"), done["operId"].get("taskId")
        )


def _target(clients: Sequence[str] | None, client_set: str | None) -> dict[str, Any]:
    return given(clients=None if clients is None else list(clients), setId=client_set)
