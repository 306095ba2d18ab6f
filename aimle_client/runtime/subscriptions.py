"""HFL training subscriptions at this client (TS 23.482 8.12.2): each new model address is a round to do."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from aimle_client.runtime.operations import STOP, Operation, ServiceOperations
from sbi.body import load
from sbi.errors import InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.common import NO_FEATURES
from schemas.hfl_training import HflTrngSub

_log = logging.getLogger("aimle.client")
_SUBSCRIPTION = HflTrngSub()


@dataclass(frozen=True)
class Assignment:
    """What one round asks of this client.

    Attributes:
        subscription_id: the subscription it comes from.
        service: VAL service, `vaSrvId`.
        dataset: data set to train and evaluate on.
        samples: how many samples to train on, at most as many as there are; 0: evaluate only.
        model_url: where the global model is.
        update_url: where the update goes unless the model's answer says otherwise; None: it must say so.
        notify_url: where the notification goes.
        schedule: when training may take place; None: always.
    """

    subscription_id: str
    service: str
    dataset: str
    samples: int
    model_url: str = field(repr=False)
    update_url: str | None = field(repr=False)
    notify_url: str = field(repr=False)
    schedule: dict[str, Any] | None = None


@dataclass
class Subscription:
    """One subscription: whose it is, its HflTrngSub, and the round that it has under way."""

    owner: str
    document: dict[str, Any] = field(repr=False)
    round: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """`subId`."""
        identifier: str = self.document["subId"]
        return identifier

    @property
    def addresses(self) -> tuple[Any, Any]:
        """What is different when a new round is asked for."""
        return self.document["aimlMdlInfo"].get("mlModelLoc"), self.document["notifUri"]

    @property
    def busy(self) -> bool:
        """Whether a round is under way."""
        return self.round is not None and not self.round.done()

    def cancel(self) -> None:
        """Nothing of a round that is under way is sent any more."""
        if self.round is not None:
            self.round.cancel()


class Subscriptions:
    """The collection. Every method raises NotFound for an identifier that is not this owner's."""

    def __init__(
        self,
        datasets: Collection[str],
        operations: ServiceOperations,
        work: Callable[[Assignment], Coroutine[Any, Any, None]],
        new_id: Callable[[], str],
    ) -> None:
        """`datasets`: which there are; `work`: does one round, cancelled when the round is obsolete."""
        self._datasets = datasets
        self._operations = operations
        self._work = work
        self._new_id = new_id
        self._all: dict[str, Subscription] = {}
        operations.listeners.append(self._on_operation)

    def create(self, owner: str, document: dict[str, Any]) -> dict[str, Any]:
        """Store an HflTrngSub, begin its first round and return it with its `subId`."""
        subscription = Subscription(owner, _stored(document, self._new_id()))
        assignment = self._assignment(subscription)
        self._all[subscription.id] = subscription
        self._begin(subscription, assignment)
        return subscription.document

    def read(self, owner: str, subscription_id: str) -> dict[str, Any]:
        """The subscription as it stands."""
        return self._get(owner, subscription_id).document

    def replace(self, owner: str, subscription_id: str, document: dict[str, Any]) -> dict[str, Any]:
        """Put another HflTrngSub in its place; with another model or notification address, begin a round."""
        subscription = self._get(owner, subscription_id)
        changed = Subscription(owner, _stored(document, subscription_id), subscription.round)
        assignment = self._assignment(changed)
        self._all[subscription_id] = changed
        if changed.addresses != subscription.addresses:
            self._begin(changed, assignment)
        return changed.document

    def modify(self, owner: str, subscription_id: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Apply a merge patch (RFC 7396); what comes out is checked and acts as with `replace`."""
        document = merge_patch(self.read(owner, subscription_id), patch)
        return self.replace(owner, subscription_id, load(_SUBSCRIPTION, document))

    def delete(self, owner: str, subscription_id: str) -> None:
        """End it; what a running round finds out is discarded."""
        self._get(owner, subscription_id).cancel()
        del self._all[subscription_id]

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all.values())

    async def close(self) -> None:
        """End all of them, and return when nothing of them runs on the event loop any more."""
        rounds = [subscription.round for subscription in self if subscription.round is not None]
        for subscription in self:
            subscription.cancel()
        self._all.clear()
        await asyncio.gather(*rounds, return_exceptions=True)

    def _get(self, owner: str, subscription_id: str) -> Subscription:
        subscription = self._all.get(subscription_id)
        if subscription is None or subscription.owner != owner:
            raise NotFound("there is no such subscription")
        return subscription

    def _begin(self, subscription: Subscription, assignment: Assignment) -> None:
        subscription.cancel()
        subscription.round = asyncio.create_task(self._work(assignment))

    def _assignment(self, subscription: Subscription) -> Assignment:
        document = subscription.document
        operation = self._operation(subscription)
        location = document["aimlMdlInfo"].get("mlModelLoc", {})
        model_url = location.get("uri") or (operation.model_uri if operation and not location else None)
        if document["dataId"] not in self._datasets:
            raise InvalidRequest.of(
                "/dataId", "this client does not have that data set", cause="UNKNOWN_DATASET"
            )
        if document["noDataSamp"] < 0:
            raise InvalidRequest.of("/noDataSamp", "a number of samples is not negative")
        if model_url is None:
            raise InvalidRequest.of(
                "/aimlMdlInfo/mlModelLoc/uri", "where the model is has to be said as a URI"
            )
        return Assignment(
            subscription.id,
            document["vaSrvId"],
            document["dataId"],
            document["noDataSamp"],
            model_url,
            operation.aggregation_uri if operation else None,
            document["notifUri"],
            document.get("operSched"),
        )

    def _operation(self, subscription: Subscription) -> Operation | None:
        document = subscription.document
        return self._operations.find(subscription.owner, document["vaSrvId"], document["notifUri"])

    def _on_operation(self, mode: str, operation: Operation) -> None:
        """A stopped operation takes its subscriptions with it."""
        if mode != STOP:
            return
        for subscription in list(self):
            if self._operation(subscription) is operation:
                self.delete(subscription.owner, subscription.id)
                _log.info("a training on %s was stopped by the server", subscription.document["dataId"])


def _stored(document: dict[str, Any], subscription_id: str) -> dict[str, Any]:
    """A HflTrngSub as it is kept and shown; of the features that the server names, none is supported."""
    features = {"suppFeat": NO_FEATURES} if "suppFeat" in document else {}
    return document | features | {"subId": subscription_id}
