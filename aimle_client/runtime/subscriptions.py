"""HFL training subscriptions at this client (TS 23.482 8.12.2): each new model address is a round to do."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from aimle_client.runtime.operations import STOP, Operation, ServiceOperations
from aimle_client.runtime.reporting import Reporter, ReportingRule
from sbi.body import load
from sbi.clock import Clock
from sbi.errors import InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.common import NO_FEATURES
from schemas.hfl_training import HflTrngSub

_log = logging.getLogger("aimle.client")
_SUBSCRIPTION = HflTrngSub()

Send = Callable[[], Awaitable[None]]
"""Sends the result of a round."""

Report = Callable[[Send], Awaitable[None]]
"""Has it sent when the subscriber wants to hear of it."""


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
    """One subscription: whose it is, its HflTrngSub, what passes its results on, and the round under way."""

    owner: str
    document: dict[str, Any] = field(repr=False)
    reporter: Reporter[Send] = field(repr=False)
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

    def end(self) -> list[asyncio.Task[None]]:
        """Nothing is sent any more; what is left to wait for."""
        self.cancel()
        return [*self.reporter.close(), *([self.round] if self.round else [])]


class Subscriptions:
    """The collection. Every method raises NotFound for an identifier that is not this owner's."""

    def __init__(
        self,
        datasets: Collection[str],
        operations: ServiceOperations,
        work: Callable[[Assignment, Report], Coroutine[Any, Any, None]],
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        """`datasets`: which there are; `work`: does one round, cancelled when the round is obsolete."""
        self._datasets = datasets
        self._operations = operations
        self._work = work
        self._clock = clock
        self._new_id = new_id
        self._all: dict[str, Subscription] = {}
        operations.listeners.append(self._on_operation)

    def create(self, owner: str, document: dict[str, Any]) -> dict[str, Any]:
        """Store an HflTrngSub, begin its first round and return it with its `subId`."""
        subscription_id = self._new_id()
        reporter: Reporter[Send] = Reporter(
            self._clock, lambda send: send(), lambda: self._end(subscription_id)
        )
        subscription = Subscription(owner, _stored(document, subscription_id), reporter)
        assignment, rule = self._assignment(subscription), ReportingRule.of(document.get("notifReqs"))
        self._all[subscription_id] = subscription
        reporter.follow(rule)
        self._begin(subscription, assignment)
        return subscription.document

    def read(self, owner: str, subscription_id: str) -> dict[str, Any]:
        """The subscription as it stands."""
        return self._get(owner, subscription_id).document

    def replace(self, owner: str, subscription_id: str, document: dict[str, Any]) -> dict[str, Any]:
        """Put another HflTrngSub in its place; with another model or notification address, begin a round."""
        subscription = self._get(owner, subscription_id)
        changed = replace(subscription, document=_stored(document, subscription_id))
        assignment, rule = self._assignment(changed), ReportingRule.of(document.get("notifReqs"))
        self._all[subscription_id] = changed
        changed.reporter.follow(rule)
        if changed.addresses != subscription.addresses:
            self._begin(changed, assignment)
        return changed.document

    def modify(self, owner: str, subscription_id: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Apply a merge patch (RFC 7396); what comes out is checked and acts as with `replace`."""
        document = merge_patch(self.read(owner, subscription_id), patch)
        return self.replace(owner, subscription_id, load(_SUBSCRIPTION, document))

    def delete(self, owner: str, subscription_id: str) -> None:
        """End it; what a running round finds out is discarded."""
        self._get(owner, subscription_id)
        self._end(subscription_id)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all.values())

    async def close(self) -> None:
        """End all of them, and return when nothing of them runs on the event loop any more."""
        running = [task for subscription in self for task in subscription.end()]
        self._all.clear()
        await asyncio.gather(*running, return_exceptions=True)

    def _end(self, subscription_id: str) -> None:
        self._all.pop(subscription_id).end()

    def _get(self, owner: str, subscription_id: str) -> Subscription:
        subscription = self._all.get(subscription_id)
        if subscription is None or subscription.owner != owner:
            raise NotFound("there is no such subscription")
        return subscription

    def _begin(self, subscription: Subscription, assignment: Assignment) -> None:
        subscription.cancel()
        subscription.round = asyncio.create_task(self._work(assignment, subscription.reporter.report))

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
