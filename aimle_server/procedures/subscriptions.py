"""What all subscriptions have in common: made, read, replaced, patched, deleted, and gone when they expire."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from marshmallow import Schema

from aimle_server.procedures.reporting import granted_rule, progress
from ml_repository.subscriptions import Looked, Subscription, Subscriptions
from sbi.auth import Caller
from sbi.body import load
from sbi.clock import NEVER, Clock, from_wire, to_wire
from sbi.errors import Conflict, InvalidRequest, NotFound
from schemas.base import merge_patch
from schemas.common import NO_FEATURES

Wire = Mapping[str, Any]

_ATTEMPTS = 5
"""Times that a change is tried whose subscription somebody looks at meanwhile."""


class Aftermath(Protocol):
    """What is left to do after a look."""

    async def kept(self) -> None:
        """It counts."""

    async def lost(self) -> None:
        """It does not: the subscription has changed meanwhile."""


async def _nothing(_: Subscription) -> None:
    """Nobody has to hear of it."""


def until_exp_time(body: Wire, now: datetime) -> tuple[Wire, datetime]:
    """`expTime` as it is granted, and when that is; without it there is no end.

    Raises:
        InvalidRequest: it is over.
    """
    if "expTime" not in body:
        return {}, NEVER
    expires = from_wire(body["expTime"])
    if expires <= now:
        raise InvalidRequest.of("/expTime", "is not in the future")
    return {"expTime": to_wire(expires)}, expires


def until_stop_time(body: Wire, now: datetime) -> tuple[Wire, datetime]:
    """Nothing to change, and the end of `timeValidity`.

    Raises:
        InvalidRequest: it is over, or ends before it begins.
    """
    window = body["timeValidity"]
    begins, ends = from_wire(window["startTime"]), from_wire(window["stopTime"])
    if ends <= begins:
        raise InvalidRequest.of("/timeValidity/stopTime", "is not after startTime")
    if ends <= now:
        raise InvalidRequest.of("/timeValidity/stopTime", "is not in the future")
    return {}, ends


@dataclass(frozen=True)
class Kind:
    """One kind of subscriptions.

    Attributes:
        name: as it is stored.
        schema: of the resource.
        look: what becomes of a subscription, and what is left to do once that is written; it may be done twice.
        end: told of each subscription that has ended.
        check: raises InvalidRequest for a resource that its clause does not allow.
        begin: what one that is made at this moment remembers.
        validity: attributes that are granted instead of those asked for, and from when on a subscription is gone.
        unsupported: attributes of optional features, which are not granted.
    """

    name: str
    schema: Schema
    look: Callable[[Subscription], Awaitable[tuple[Looked, Aftermath | None]]]
    end: Callable[[Subscription], Awaitable[None]] = _nothing
    check: Callable[[Wire], object] = lambda _: None
    begin: Callable[[datetime], Wire] = lambda _: {}
    validity: Callable[[Wire, datetime], tuple[Wire, datetime]] = until_exp_time
    unsupported: frozenset[str] = frozenset()


class SubscriptionManagement:
    """The subscriptions of a kind, as those who subscribed see them.

    Args:
        check_uri: raises ValueError for an address that must not be called.
        wake: has what is due looked at.
    """

    def __init__(
        self,
        kind: Kind,
        subscriptions: Subscriptions,
        clock: Clock,
        new_id: Callable[[], str],
        check_uri: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._kind = kind
        self._subscriptions = subscriptions
        self._clock = clock
        self._new_id = new_id
        self._check_uri = check_uri
        self._wake = wake

    async def create(self, caller: Caller, body: Wire) -> tuple[str, dict[str, Any]]:
        """A new subscription's id, and the resource.

        Raises:
            InvalidRequest: its clause does not allow it, or it would have expired already.
        """
        now = self._clock.now()
        granted, expires = self._granted(body, now)
        reporting = progress(granted, {}, now)
        subscription = Subscription(
            self._new_id(),
            self._kind.name,
            caller.subject,
            granted,
            expires,
            self._kind.begin(now),
            reporting,
        )
        await self._subscriptions.add(subscription, now)
        self._wake()
        return subscription.id, granted

    async def get(self, caller: Caller, subscription_id: str) -> dict[str, Any]:
        """The caller's subscription.

        Raises:
            NotFound: there is none.
        """
        return dict((await self._read(caller, subscription_id, self._clock.now())).body)

    async def replace(self, caller: Caller, subscription_id: str, body: Wire) -> dict[str, Any]:
        """Another resource in its place.

        Raises:
            NotFound, InvalidRequest: as above; Conflict: it keeps changing meanwhile.
        """
        return await self._change(caller, subscription_id, lambda _: body)

    async def modify(self, caller: Caller, subscription_id: str, patch: Wire) -> dict[str, Any]:
        """The resource after a JSON merge patch.

        Raises:
            NotFound, InvalidRequest, Conflict: as above.
        """
        return await self._change(
            caller, subscription_id, lambda body: load(self._kind.schema, merge_patch(body, patch))
        )

    async def delete(self, caller: Caller, subscription_id: str) -> None:
        """End it.

        Raises:
            NotFound: there is none.
        """
        removed = await self._subscriptions.remove(
            self._kind.name, subscription_id, caller.subject, self._clock.now()
        )
        if removed is None:
            raise _not_found(subscription_id)
        await self._kind.end(removed)

    async def _change(
        self, caller: Caller, subscription_id: str, edit: Callable[[Wire], Wire]
    ) -> dict[str, Any]:
        for _ in range(_ATTEMPTS):
            now = self._clock.now()
            subscription = await self._read(caller, subscription_id, now)
            granted, expires = self._granted(edit(subscription.body), now)
            reporting = progress(granted, subscription.reporting, now)
            changed = replace(subscription, body=granted, expires=expires, reporting=reporting)
            if await self._subscriptions.replace(changed, now):
                self._wake()
                return granted
        raise Conflict("the subscription keeps changing")

    async def _read(self, caller: Caller, subscription_id: str, now: datetime) -> Subscription:
        found = await self._subscriptions.get(self._kind.name, subscription_id, caller.subject, now)
        if found is None:
            raise _not_found(subscription_id)
        return found

    def _granted(self, body: Wire, now: datetime) -> tuple[dict[str, Any], datetime]:
        """The resource as it is granted, and from when on it is gone."""
        self._kind.check(body)
        try:
            self._check_uri(body["notifUri"])
        except ValueError as error:
            raise InvalidRequest.of("/notifUri", str(error)) from error
        granted = {name: value for name, value in body.items() if name not in self._kind.unsupported}
        if "suppFeat" in granted:
            granted["suppFeat"] = NO_FEATURES
        validity, expires = self._kind.validity(body, now)
        return {**granted, **validity}, min(expires, granted_rule(body, now).until)


def _not_found(subscription_id: str) -> NotFound:
    return NotFound(f"no subscription {subscription_id}")
