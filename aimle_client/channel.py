"""A way in for those that nobody can call: a WebSocket to the AIMLE server, over which it calls (TS 29.122 5.2.5.4).

What comes over it is sent on to an HTTP server of this process, so the same APIs answer as without it. Models do not
come this way: they are downloaded and uploaded as ever, by calls that this side makes.
"""

import asyncio
import logging
import random
from contextlib import AsyncExitStack

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from aimle_client.answers import created_id, read
from aimle_client.errors import AimleClientError, NotFound, RequestRefused
from aimle_client.http import Connection
from sbi.notification_frames import Answer, FrameError, Request, answer_frame, read_request
from schemas.channels import Channel as ChannelType

_log = logging.getLogger("aimle.client")

CHANNELS = "/aimle-channels/v1/channels"
SCOPE = "aimle-channels"

AT_ONCE = 64
"""Requests that are answered at the same time."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds between two attempts to open the WebSocket again; doubled from the first to the longest."""

_GOODBYE = 5.0
"""Seconds of real time that closing may take: whoever leaves does not wait for a server that is away."""

_ANSWER_HEADERS = frozenset({"content-type", "location", "retry-after", "allow", "www-authenticate"})


class Channel:
    """A channel at the AIMLE server; `open` it, `connect` it to an HTTP server, `close` it.

    Attributes:
        url: the address to give to others, once it is open.
    """

    def __init__(self, connection: Connection) -> None:
        self.url = ""
        self._connection = connection
        self._id = ""
        self._websocket_uri = ""
        self._target = ""
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Get an address.

        Raises:
            AimleClientError: of any kind.
        """
        body = {"websockNotifConfig": {"requestWebsocketUri": True}}
        answer = await self._connection.request("POST", CHANNELS, body=body)
        granted = read(ChannelType(), answer.body)
        self._id = created_id(answer)
        self.url = granted["notifUri"]
        self._websocket_uri = granted["websockNotifConfig"].get("websocketUri", "")

    async def connect(self, target: str) -> asyncio.Task[None]:
        """Have what is sent to the address answered by the HTTP server at `target`, until the channel is closed.

        The task ends with RequestRefused if the server does not have the channel any more.

        Raises:
            AimleClientError: the WebSocket cannot be opened.
        """
        self._target = target
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        )
        websocket = await self._connection.websocket(self._websocket_uri, SCOPE)
        self._task = asyncio.create_task(self._keep(websocket))
        return self._task

    async def close(self) -> None:
        """End it; a server that cannot be told forgets it after some days."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._stack.aclose()
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._connection.request("DELETE", f"{CHANNELS}/{self._id}")
        except NotFound:
            pass  # it is gone already, which is what was wanted
        except (AimleClientError, TimeoutError) as error:
            _log.warning("could not close the channel: %s", error)

    async def _keep(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            async with websocket:
                await self._serve(websocket)
            websocket = await self._again()

    async def _again(self) -> aiohttp.ClientWebSocketResponse:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            try:
                return await self._connection.websocket(self._websocket_uri, SCOPE)
            except RequestRefused as error:
                _log.error("the AIMLE server does not let this side connect any more: %s", error)
                raise
            except AimleClientError as error:
                _log.warning("the WebSocket cannot be opened: %s", error)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _serve(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        """Return when the WebSocket is closed, by whomever."""
        async with asyncio.TaskGroup() as group:
            async for message in websocket:
                if message.type is not WSMsgType.BINARY:
                    _log.warning("the WebSocket brought something that is no frame")
                    return
                await self._limit.acquire()
                group.create_task(self._answer(websocket, message.data))

    async def _answer(self, websocket: aiohttp.ClientWebSocketResponse, frame: bytes) -> None:
        try:
            number, request = read_request(frame)
            await websocket.send_bytes(answer_frame(number, await self._ask(request)))
        except FrameError as error:
            _log.warning("the WebSocket brought something that is no frame: %s", error)
        except ConnectionError:
            _log.info("the WebSocket was closed before an answer could be sent")
        finally:
            self._limit.release()

    async def _ask(self, request: Request) -> Answer:
        """What the HTTP server of this process answers."""
        try:
            async with self._session.request(
                request.method,
                URL(self._target + request.path, encoded=True),
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
            ) as response:
                headers = {
                    name: value for name, value in response.headers.items() if name.lower() in _ANSWER_HEADERS
                }
                return Answer(response.status, headers, await response.read())
        except (aiohttp.ClientError, TimeoutError):
            _log.exception("what came over the WebSocket could not be answered")
            return Answer(502)
