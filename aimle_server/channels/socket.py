"""One WebSocket of a channel: requests go out, answers come in, each found by its sequence number."""

import asyncio
from itertools import count

from aiohttp import WSCloseCode, WSMsgType, web

from sbi.errors import Unavailable
from sbi.notification_frames import NUMBERS, Answer, FrameError, Request, read_answer, request_frame

MOST_WAITING = 64
"""Requests under way at once; whoever takes longer for more gets no more."""

LAST_SECONDS = 5.0
"""For the answers to what is under way when a WebSocket is to be closed."""


NOT_CONNECTED = "CONSUMER_NOT_CONNECTED"
"""Cause of a refusal by which a process also tells another one that it does not hold the WebSocket."""


class NotConnected(Unavailable):
    """There is no WebSocket, or it takes nothing more: the request was not sent."""

    def __init__(self) -> None:
        super().__init__("the consumer is not connected", cause=NOT_CONNECTED)


class Broken(Unavailable):
    """The WebSocket ended before the answer came: the request may have been done."""

    def __init__(self) -> None:
        super().__init__("the connection to the consumer broke")


class Socket:
    """An open WebSocket."""

    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self._websocket = websocket
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._ending: asyncio.Task[None] | None = None

    async def request(self, request: Request) -> Answer:
        """The other side's answer; the caller limits the time.

        Raises:
            NotConnected, Broken: see there.
        """
        if self._ending or self._websocket.closed or len(self._waiting) >= MOST_WAITING:
            raise NotConnected
        number = next(self._numbers) % NUMBERS
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._websocket.send_bytes(request_frame(number, request))
            return await future
        except ConnectionError as error:
            raise Broken from error
        finally:
            del self._waiting[number]

    async def serve(self) -> None:
        """Hand the answers to who waits for them; return when the WebSocket is closed."""
        try:
            async for message in self._websocket:
                if message.type is not WSMsgType.BINARY:
                    await self._websocket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                    break
                self._take(message.data)
        except FrameError:
            await self._websocket.close(code=WSCloseCode.PROTOCOL_ERROR)
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Broken())
        if self._ending:
            await self._ending

    def _take(self, frame: bytes) -> None:
        """An answer; one that comes again, or too late, is nobody's any more."""
        number, answer = read_answer(frame)
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(answer)

    def end(self) -> asyncio.Task[None]:
        """Send nothing more, and close when what is under way has been answered, or soon."""
        self._ending = self._ending or asyncio.create_task(self._end())
        return self._ending

    async def _end(self) -> None:
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=LAST_SECONDS)
        await self._websocket.close(code=WSCloseCode.GOING_AWAY)
