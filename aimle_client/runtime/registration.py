"""The client's registration at its AIMLE server, kept alive (TS 23.482 8.7)."""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Any

from aiohttp import hdrs

from aimle_client.errors import AimleClientError, NotFound, RequestRefused, UnexpectedAnswer
from aimle_client.http import Answer, Connection
from sbi.clock import Clock, from_wire

_log = logging.getLogger("aimle.client")

REGISTRATIONS = "/aimles-client-reg/v1/registrations"
_UNLIMITED = timedelta(hours=1)
"""How often a registration without an end is confirmed, so that a server that lost it gets it again."""
_LONGEST_PAUSE = timedelta(seconds=30)
_GOODBYE = 5.0
"""Seconds of real time that deregistering may take: whoever leaves does not wait for a server that is away."""


class Registration:
    """One registration, renewed after two thirds of its life.

    Attributes:
        id: at the server; None: not registered.
        expires: its end, None: it has none.
    """

    def __init__(self, connection: Connection, document: dict[str, Any], clock: Clock) -> None:
        """`document` is the AimleClientRegInfo to register."""
        self.id: str | None = None
        self.expires: datetime | None = None
        self._connection = connection
        self._document = document
        self._clock = clock
        self._life = _UNLIMITED

    async def register(self) -> None:
        """Register anew.

        Raises:
            AimleClientError: of any kind; the client is not registered then.
        """
        self.id = None
        answer = await self._connection.request("POST", REGISTRATIONS, body=self._document)
        location = answer.headers.get(hdrs.LOCATION, "").rstrip("/")
        if not location:
            raise UnexpectedAnswer("the server's answer to a registration names no resource")
        self.id = location.rpartition("/")[2]
        self._note(answer)
        _log.info("registered at the AIMLE server")

    async def keep(self) -> None:
        """Renew in time, for ever; register again where the server has forgotten this client.

        Raises:
            RequestRefused: the server does not want this client any more (4xx).
        """
        pause = self._life * 2 / 3
        while True:
            await self._clock.sleep(pause.total_seconds())
            try:
                await self._renew()
                pause = self._life * 2 / 3
            except AimleClientError as error:
                if isinstance(error, RequestRefused) and error.status < 500:
                    _log.error("the AIMLE server does not want this client any more: %s", error)
                    raise
                _log.warning("the registration could not be renewed: %s", error)
                pause = min(_LONGEST_PAUSE, self._life / 10)

    async def withdraw(self) -> None:
        """Deregister; a server that cannot be told forgets the client when the registration expires."""
        if self.id is None:
            return
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._connection.request("DELETE", f"{REGISTRATIONS}/{self.id}")
        except NotFound:
            pass  # it is gone already, which is what was wanted
        except (AimleClientError, TimeoutError) as error:
            _log.warning("could not deregister: %s", error)
        self.id = None

    async def _renew(self) -> None:
        if self.id is None:
            return await self.register()
        try:
            answer = await self._connection.request(
                "PUT", f"{REGISTRATIONS}/{self.id}", body={"regData": self._document}
            )
        except NotFound:
            _log.info("the AIMLE server has forgotten this client")
            return await self.register()
        self._note(answer)
        return None

    def _note(self, answer: Answer) -> None:
        """How long the registration lasts now; an answer without a body (204) grants the same time again."""
        now = self._clock.now()
        if answer.body is None:
            self.expires = None if self.expires is None else now + self._life
            return
        try:
            text = answer.body.get("expTime")
            self.expires = None if text is None else from_wire(text)
        except (AttributeError, TypeError, ValueError) as error:
            raise UnexpectedAnswer("the server's answer to a registration is malformed") from error
        self._life = _UNLIMITED if self.expires is None else max(self.expires - now, timedelta(seconds=1))
