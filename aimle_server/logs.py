"""The log: one JSON object per line on standard error, and one line per request without anything secret.

A path is logged as its route's template: the unguessable parts of a capability URL, like query strings, are
as good as passwords and are never written. What matched no route is not written at all, because it may be
a capability URL with a slip in it.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from sbi.clock import to_wire

ACCESS = logging.getLogger("aimle.access")

_STANDARD = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; what a call gave as `extra` becomes further members."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry = {
            "time": to_wire(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class AccessLog(AbstractAccessLogger):
    """One line per request; aiohttp makes it for each connection."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the line; `time` is in s."""
        fields = {
            "method": request.method,
            "path": _template(request),
            "status": response.status,
            "ms": round(time * 1000, 1),
            "peer": request.remote,
        }
        self.logger.info("%(method)s %(path)s %(status)s", fields, extra=fields)

    @property
    def enabled(self) -> bool:
        """Whether anybody reads it."""
        return self.logger.isEnabledFor(logging.INFO)


def configure(level: str) -> None:
    """Send everything from `level` on to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # On DEBUG these write whole commands and requests, with documents and addresses in them.
    for name in ("pymongo", "aiohttp"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("aiohttp.server").addFilter(_is_no_broken_request)


def _is_no_broken_request(record: logging.LogRecord) -> bool:
    """False for a request that is no HTTP: its record quotes it, and the access log has its 400 anyway."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def _template(request: web.BaseRequest) -> str:
    # A request that could not be parsed has no match; the public property would raise for it.
    match = getattr(request, "_match_info", None)
    resource = match.route.resource if match is not None else None
    return resource.canonical if resource is not None else "(no route)"
