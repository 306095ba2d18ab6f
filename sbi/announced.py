"""The headers of an upload: Content-Range (RFC 9110 14.5), Content-Length and Repr-Digest (RFC 9530)."""

import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from sbi.digests import REPR_DIGEST, Digest, announced_digest
from sbi.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


@dataclass(frozen=True)
class Announced:
    """What the headers of an upload say.

    Attributes:
        start: where the body belongs; None: at the beginning, in place of what is there.
        length: of the body, if they say.
        total: of the whole, if they say.
        digest: of the whole, if they say.
    """

    start: int | None
    length: int | None
    total: int | None
    digest: Digest | None

    def too_long(self, most: int) -> InvalidRequest | PayloadTooLarge:
        """The error for a body with more bytes than announced, or, where nothing is announced, than `most`."""
        if self.length is None:
            return _too_large(most)
        return InvalidRequest.of(hdrs.CONTENT_RANGE, f"the body has more than {self.length} bytes")


def announced_upload(request: web.Request, most: int, coding: str | None = None) -> Announced:
    """What the request announces; `coding` is the content coding that it may have, which all its numbers count with.

    Raises:
        InvalidRequest: a header cannot be read, or contradicts another; its name is in the error.
        PayloadTooLarge: more than `most` bytes.
        UnsupportedMediaType: another content coding.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity") not in ("identity", coding):
        raise UnsupportedMediaType(f"the content coding is not {coding or 'identity'}")
    try:
        digest = announced_digest(request.headers)
    except ValueError as error:
        raise InvalidRequest.of(REPR_DIGEST, str(error)) from error
    start, length, total = None, request.content_length, request.content_length
    if hdrs.CONTENT_RANGE in request.headers:
        start, length, total = _read_range(request)
    if total is not None and total > most:
        raise _too_large(most)
    return Announced(start, length, total, digest)


def _read_range(request: web.Request) -> tuple[int, int, int]:
    """Start, length and total of `Content-Range`."""
    found = _CONTENT_RANGE.fullmatch(request.headers[hdrs.CONTENT_RANGE])
    if found is None:
        raise InvalidRequest.of(hdrs.CONTENT_RANGE, "not `bytes first-last/total`")
    first, last, total = map(int, found.groups())
    if not first <= last < total:
        raise InvalidRequest.of(hdrs.CONTENT_RANGE, "first, last and total are not in order")
    if request.content_length not in (None, last - first + 1):
        raise InvalidRequest.of(hdrs.CONTENT_RANGE, "another length than Content-Length")
    return first, last - first + 1, total


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"at most {most} bytes are taken")
