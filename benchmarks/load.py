"""Requests as fast as they are answered, with little work of our own: bytes made before, over open connections."""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import Figures, percentile

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(method: str, url: str, path: str, token: str, body: Any = None) -> bytes:
    """One HTTP/1.1 request with a JSON body, if one is given."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def send(url: str, requests: Sequence[bytes], connections: int) -> Figures:
    """Send all; `rate` (requests per second), `p50` and `p99` (milliseconds).

    Raises:
        RuntimeError: an answer was no success.
    """
    seconds: list[float] = []
    source = iter(requests)
    began = time.perf_counter()
    await asyncio.gather(*(_send(url, source, seconds) for _ in range(connections)))
    rate = len(requests) / (time.perf_counter() - began)
    return {"rate": rate, "p50": 1000 * percentile(seconds, 0.5), "p99": 1000 * percentile(seconds, 0.99)}


async def _send(url: str, source: Iterator[bytes], seconds: list[float]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for content in source:
            began = time.perf_counter()
            writer.write(content)
            await _answer(reader)
            seconds.append(time.perf_counter() - began)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(f"{head.splitlines()[0].decode()}: {body[:500].decode(errors='replace')}")
