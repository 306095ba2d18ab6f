"""Aimles_AimlTaskTransfer (TS 24.560; TS 23.482 8.13): AIML tasks that move from one client to another."""

from datetime import timedelta

from support.behaviour import EveryOperation
from support.consumer import Request, wire
from support.examples import SERVICE
from support.world import World


class TestEveryOperation(EveryOperation):
    """Of this API; whether a task can be moved is for the server to say."""

    api = "Aimles_AimlTaskTransfer"
    may_be_refused = ("AimlTtAssist", "CtldAimlTt")

    def request(self, name: str, world: World) -> Request:
        """By a client, with another one that could take its task."""
        source, target = world.registered_client(), world.client()
        target.dataset = source.dataset
        target.register(world.val)
        task = {
            "requestorId": {"valUeId": source.name},
            "aimlTaskType": "MODEL_TRAINING",
            "aimlInfoType": "INTERMEDIATE_AIML_OP_STATUS",
        }
        if name == "AimlTtAssist":
            return Request({**task, "valServiceId": SERVICE})
        now = world.val.now()
        window = {"startTime": wire(now), "stopTime": wire(now + timedelta(hours=1))}
        return Request({**task, "aimlTaskTransferTime": window})
