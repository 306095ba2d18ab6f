"""AIMLE client registration, update and de-registration (TS 23.482 8.7, Aimles_AIMLEClientRegistration)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ml_repository.registrations import Registrations, place, tags
from sbi.auth import Caller
from sbi.clock import Clock, from_wire, to_wire
from sbi.errors import Forbidden, InvalidParam, InvalidRequest, NotFound
from schemas.common import NO_FEATURES

Wire = Mapping[str, Any]


@dataclass(frozen=True)
class Lifetimes:
    """How long a registration lasts unless it is renewed.

    Attributes:
        default: where the client asks for nothing.
        maximum: the most that a client is granted.
    """

    default: timedelta = timedelta(hours=1)
    maximum: timedelta = timedelta(days=1)

    def expiry(self, proposal: str | None, now: datetime) -> datetime:
        """When a registration made now expires; `proposal` is the client's `expTime`.

        Raises:
            InvalidRequest: the proposed moment is not in the future.
        """
        if proposal is None:
            return now + self.default
        proposed = from_wire(proposal)
        if proposed <= now:
            raise InvalidRequest.of("/expTime", "is not in the future")
        return min(proposed, now + self.maximum)


class ClientRegistration:
    """The register of AIMLE clients, as its clients see it.

    Args:
        registrations: where they are kept.
        clock: tells the time.
        new_id: makes registration IDs that nobody guesses.
        lifetimes: how long they last.
        check_uri: raises ValueError for an address that this server would not call.
        changed: told that clients came, changed or left.
    """

    def __init__(
        self,
        registrations: Registrations,
        clock: Clock,
        new_id: Callable[[], str],
        lifetimes: Lifetimes,
        check_uri: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._registrations = registrations
        self._clock = clock
        self._new_id = new_id
        self._lifetimes = lifetimes
        self._check_uri = check_uri
        self._changed = changed

    async def register(self, caller: Caller, reg_info: Wire) -> tuple[str, dict[str, Any]]:
        """Register a client; the registration ID and the AimleRegistration.

        The same owner's former registration of the client is replaced, its ID is gone.

        Raises:
            InvalidRequest: a profile is incomplete, or its address is not one this server calls.
            Forbidden: somebody else has a live registration of this client.
        """
        self._check_profiles(reg_info, "")
        now = self._clock.now()
        registration_id = self._new_id()
        document = self._describe(reg_info, self._lifetimes.expiry(None, now), now)
        identity = {"_id": client_id(reg_info), "_registration": registration_id, "_owner": caller.subject}
        if not await self._registrations.register(identity | document, now):
            raise Forbidden("this AIMLE client is registered by another owner", cause="CLIENT_ID_IN_USE")
        self._changed()
        return registration_id, _on_wire(document)

    async def update(self, caller: Caller, registration_id: str, registration: Wire) -> dict[str, Any]:
        """Replace what a client states and renew its registration; the AimleRegistration.

        Raises:
            InvalidRequest: as for `register`, or another client ID, or an expiry that is not in the future.
            NotFound: the caller has no such live registration.
        """
        now = self._clock.now()
        current = await self._registrations.get(registration_id, caller.subject, now)
        if current is None:
            raise _not_found(registration_id)
        reg_info = _completed(registration["regData"], current["regData"])
        if reg_info["aimleClientId"] != current["regData"]["aimleClientId"]:
            raise InvalidRequest.of("/regData/aimleClientId", "is not the client of this registration")
        self._check_profiles(reg_info, "/regData")
        document = self._describe(reg_info, self._lifetimes.expiry(registration.get("expTime"), now), now)
        if not await self._registrations.update(registration_id, caller.subject, document, now):
            raise _not_found(registration_id)
        self._changed()
        return _on_wire(document)

    async def deregister(self, caller: Caller, registration_id: str) -> None:
        """Remove a registration.

        Raises:
            NotFound: the caller has no such live registration.
        """
        if not await self._registrations.delete(registration_id, caller.subject, self._clock.now()):
            raise _not_found(registration_id)
        self._changed()

    def _check_profiles(self, reg_info: Wire, prefix: str) -> None:
        wrong = [
            InvalidParam(f"{prefix}/suppProfiles/{number}/{name}", reason)
            for number, entry in enumerate(reg_info["suppProfiles"])
            for name, reason in self._faults(entry)
        ]
        if wrong:
            raise InvalidRequest.naming(wrong)

    def _faults(self, entry: Wire) -> list[tuple[str, str]]:
        """Optional in the OpenAPI document, both parts are mandatory in TS 24.560 6.3.6.2.4."""
        missing = [(name, "is needed") for name in ("clientProfile", "suppServices") if name not in entry]
        if missing:
            return missing
        try:
            self._check_uri(entry["clientProfile"]["aimleClientUri"])
        except ValueError as error:
            return [("clientProfile/aimleClientUri", str(error))]
        return []

    def _describe(self, reg_info: Wire, expires: datetime, now: datetime) -> dict[str, Any]:
        """The wire's AimleRegistration with what is derived from it."""
        reg_data = dict(reg_info)
        if "suppFeat" in reg_data:
            reg_data["suppFeat"] = NO_FEATURES
        return {
            "regData": reg_data,
            "expTime": to_wire(expires),
            "_expires": expires,
            "_stated": now,
            "_tags": tags(reg_data),
            "_place": place(client_id(reg_data)),
        }


def client_id(reg_info: Wire) -> str:
    """The AIMLE client ID: the VAL UE ID or VAL user ID, whichever the client goes by."""
    target = reg_info["aimleClientId"]
    return str(target["valUeId"] if "valUeId" in target else target["valUserId"])


def _completed(reg_info: Wire, current: Wire) -> dict[str, Any]:
    """An update may leave out the profile or the services of an entry that it keeps (TS 23.482 8.7.3.4).

    Which entry that is shows only in its position, so only a list of the registered length is completed.
    """
    entries, registered = reg_info["suppProfiles"], current["suppProfiles"]
    if len(entries) == len(registered):
        entries = [{**kept, **entry} for kept, entry in zip(registered, entries, strict=True)]
    return {**reg_info, "suppProfiles": entries}


def _on_wire(document: Wire) -> dict[str, Any]:
    return {name: value for name, value in document.items() if not name.startswith("_")}


def _not_found(registration_id: str) -> NotFound:
    return NotFound(f"no registration {registration_id}")
