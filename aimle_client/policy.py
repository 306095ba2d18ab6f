"""Whether this client takes part: the answer to a participation request (TS 23.482 8.10)."""

from dataclasses import dataclass
from typing import Any, Protocol

from sbi.errors import InvalidRequest


class Policy(Protocol):
    """An application's say; both methods get the AimlecParticipationReq in wire shape.

    Two more methods are optional (TS 23.482 8.6). `async take_over(request) -> bool`: whether to go on with a task of
    another client, by the request in wire shape; without the method no such task is taken. `async hand_over(task) ->
    str`: asked every second while a training is under way that can be moved, with its runtime.task.Task; a text is the
    reason for which the task is to be handed over now, an empty one means that it stays.
    """

    async def join(self, request: dict[str, Any]) -> bool:
        """Whether to join the client set."""
        ...

    async def depart(self, request: dict[str, Any]) -> bool:
        """Whether to leave the client set."""
        ...


@dataclass
class DefaultPolicy:
    """Joins what it can serve and leaves whenever it is asked to.

    Attributes:
        datasets: the data sets that this client has.
        services: the VAL services that it works for.
        paused: set by the application: join nothing for the time being.
    """

    datasets: frozenset[str]
    services: frozenset[str]
    paused: bool = False

    async def join(self, request: dict[str, Any]) -> bool:
        """Yes for a service that is served, with data sets that are all here."""
        wanted = request["dataSetReq"].get("avail", {}).get("ids", [])
        served = request["serviceReq"]["valServId"] in self.services
        return not self.paused and served and self.datasets.issuperset(wanted)

    async def depart(self, request: dict[str, Any]) -> bool:
        """Always yes."""
        return True

    async def take_over(self, request: dict[str, Any]) -> bool:
        """Yes unless paused: whoever asks has been told which service and data sets there are."""
        return not self.paused


class Participation:
    """Asks the policy, and remembers the outcome.

    Attributes:
        policy: the application's, or the default.
        client_sets: identifiers of the client sets that this client is in.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.client_sets: set[str] = set()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The AimlecParticipationResp to an AimlecParticipationReq.

        Raises:
            InvalidRequest: neither JOIN nor DEPART.
        """
        match request["clientSetPart"]:
            case "JOIN":
                willing = await self.policy.join(request)
                change = self.client_sets.add
            case "DEPART":
                willing = await self.policy.depart(request)
                change = self.client_sets.discard
            case _:
                raise InvalidRequest.of("/clientSetPart", "JOIN or DEPART")
        if willing:
            change(request["clientSetId"])
        return {"clientStatus": willing}
