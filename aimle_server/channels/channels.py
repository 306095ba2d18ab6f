"""The channels of a deployment: reached by the WebSockets of this process, or by way of the one that holds them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

import aiohttp
from aiohttp import hdrs, web
from pymongo.errors import PyMongoError
from yarl import URL

from aimle_server.channels.socket import NOT_CONNECTED, Broken, NotConnected, Socket
from aimle_server.consumers.peers import FORWARDED
from aimle_server.metrics import CHANNELS
from ml_repository.channels import Channels as ChannelStore
from ml_repository.channels import StoredChannel
from ml_repository.database import translate
from ml_repository.outbox import Outbox
from sbi.clock import Clock
from sbi.errors import NotFound, Unavailable
from sbi.notification_frames import Answer, Request
from sbi.outbound import Response, TargetUnreachable

_log = logging.getLogger("aimle.channels")

CHANNELS_PATH = "/aimle-channels/v1"

KEPT = timedelta(days=7)
"""How long a channel waits for its owner to connect again."""

CONNECTION_SECONDS = 3600.0
"""A WebSocket that is open for longer is closed, so that its owner shows a token that is still good."""

HEARTBEAT = 20.0
"""Seconds between pings; who does not answer in half of that is gone."""

LOOK_SECONDS = 0.2
"""Between two looks whether somebody has connected, here or at another process."""

_ANSWER_HEADERS = frozenset(
    {"content-type", "content-encoding", "location", "retry-after", "allow", "www-authenticate"}
)


class Channels:
    """Sends requests through channels, and holds the WebSockets that were opened to this process.

    Args:
        base: the address of every channel is this and its key.
        address: apiRoot at which the other processes reach this one.
        session: for requests to them.
        new_id: names WebSockets.
        most_bytes: of an answer's body.

    Attributes:
        wake: told that somebody has connected, for whom something may have waited.
    """

    def __init__(
        self,
        stored: ChannelStore,
        outbox: Outbox,
        clock: Clock,
        new_id: Callable[[], str],
        session: aiohttp.ClientSession,
        *,
        base: str,
        address: str,
        most_bytes: int,
    ) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._stored = stored
        self._outbox = outbox
        self._clock = clock
        self._new_id = new_id
        self._session = session
        self._base = base
        self._address = address
        self._most_bytes = most_bytes
        self._sockets: dict[str, Socket] = {}

    def leads(self, url: str) -> bool:
        """Whether this is the address of a channel, or below it."""
        return url.startswith(self._base)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, wait: float
    ) -> Response:
        """The answer to a request to an address that `leads` to a channel; `wait` as for `request`.

        Raises:
            TargetUnreachable: nobody is connected, or not any more.
        """
        key, path = _parted(url.removeprefix(self._base))
        try:
            answer = await self.request(key, Request(method, path, headers, body), wait=wait)
        except NotFound:
            return Response(404, {}, b"", complete=True)
        except Unavailable as error:
            raise TargetUnreachable(error.detail) from error
        return Response(answer.status, answer.headers, answer.body, complete=True)

    async def request(
        self, key: str, request: Request, *, wait: float = 0.0, forwarded: bool = False
    ) -> Answer:
        """The answer of whoever is connected to the channel with this key.

        Args:
            wait: seconds for somebody to connect, where nobody is.
            forwarded: another process has passed it on: who is connected elsewhere is not looked for.

        Raises:
            NotFound: there is no such channel.
            NotConnected, Broken: see there.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            try:
                return await self._attempt(key, request, forwarded)
            except NotConnected:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(LOOK_SECONDS)

    async def _attempt(self, key: str, request: Request, forwarded: bool) -> Answer:
        if socket := self._sockets.get(key):
            return await socket.request(request)
        try:
            address = await self._stored.holder(key, self._clock.now())
        except KeyError as error:
            raise NotFound("there is no such channel") from error
        if address is None or address == self._address or forwarded:
            raise NotConnected
        return await self._pass_on(f"{address}{URL(self._base).raw_path}{key}{request.path}", request)

    async def _pass_on(self, url: str, request: Request) -> Answer:
        """The answer by way of the process that holds the WebSocket."""
        headers = {**request.headers, FORWARDED: "1"}
        try:
            async with self._session.request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=request.body,
                allow_redirects=False,
            ) as response:
                body = await response.read()
                if response.status == 503 and NOT_CONNECTED.encode() in body:
                    raise NotConnected
                return Answer(response.status, fit_to_pass(response.headers), body)
        except aiohttp.ClientConnectorError as error:  # a process that has died
            raise NotConnected from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Broken from error

    async def serve(self, request: web.Request, channel: StoredChannel) -> web.StreamResponse:
        """Hold a WebSocket that the channel's owner opens, until it is closed; one that was open is replaced.

        Raises:
            HTTPUpgradeRequired: the request opens no WebSocket.
            NotFound: the channel has been deleted meanwhile.
        """
        websocket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=self._most_bytes)
        if not websocket.can_prepare(request).ok:
            raise web.HTTPUpgradeRequired(headers={hdrs.UPGRADE: "websocket"})
        connection = self._new_id()
        if not await self._stored.connect(channel.id, self._address, connection, self._clock.now() + KEPT):
            raise NotFound("there is no such channel")
        try:
            await websocket.prepare(request)
            await self._hold(Socket(websocket), channel)
        finally:
            await _if_it_answers(self._stored.disconnect(channel.id, connection, self._clock.now() + KEPT))
        return websocket

    async def _hold(self, socket: Socket, channel: StoredChannel) -> None:
        if before := self._sockets.get(channel.key):
            before.end()
        self._sockets[channel.key] = socket
        retiring = asyncio.get_running_loop().call_later(CONNECTION_SECONDS, socket.end)
        try:
            with CHANNELS.track_inprogress():
                await _if_it_answers(self._outbox.make_due(f"{self._base}{channel.key}"))
                self.wake()
                await socket.serve()
        finally:
            retiring.cancel()
            if self._sockets.get(channel.key) is socket:
                del self._sockets[channel.key]

    def end(self, key: str) -> None:
        """Close the WebSocket of a channel that has been deleted, if it is here."""
        if socket := self._sockets.get(key):
            socket.end()

    async def close(self) -> None:
        """Close every WebSocket; their owners connect to another process, or to this one's successor."""
        await asyncio.gather(*(socket.end() for socket in list(self._sockets.values())))


async def _if_it_answers(write: Awaitable[object]) -> None:
    """Do without what a database that is away cannot be told: it matters little, and is told again."""
    try:
        await write
    except PyMongoError as error:
        if translate(error) is None:
            raise
        _log.warning("the database does not answer; it is not told of a WebSocket")


def _parted(rest: str) -> tuple[str, str]:
    """The key and what follows it, which is empty or begins with a slash."""
    rest = rest.partition("#")[0]
    place = next((place for place, sign in enumerate(rest) if sign in "/?"), len(rest))
    key, path = rest[:place], rest[place:]
    return key, f"/{path}" if path.startswith("?") else path


def fit_to_pass(headers: Mapping[str, str]) -> dict[str, str]:
    """Of an answer's headers those that are meant for whoever has asked."""
    return {name: value for name, value in headers.items() if name.lower() in _ANSWER_HEADERS}
