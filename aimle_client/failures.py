"""Why a request got no answer, in words: whom it was for, host and port, and the kind of failure."""

import errno
import os

import aiohttp

from aimle_client.addresses import host_and_port
from aimle_client.errors import NotTrusted, ServerUnavailable, UnexpectedAnswer

Failure = aiohttp.ClientError | TimeoutError
"""What aiohttp raises for a request that got no answer, the application's mistakes aside."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"})


def not_sent(error: Failure) -> bool:
    """Whether there was no connection, so that nobody can have done what was asked."""
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def failure(who: str, url: str, error: Failure) -> ServerUnavailable | UnexpectedAnswer:
    """The SDK's error for a request to `url` that failed; `who` is at that address, as in `the server`.

    It is NotTrusted, or UnexpectedAnswer, where another attempt would fail as well.
    """
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return UnexpectedAnswer(f"{who}: the address is not one")
    reached = f"{who} at {host_and_port(url)}"
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return NotTrusted(f"{reached} is not trusted: {_certificate(error)}")
        case aiohttp.ClientSSLError():
            return NotTrusted(f"{reached} cannot be reached: {_handshake(error)}")
        case aiohttp.ClientConnectorDNSError():
            return ServerUnavailable(f"{reached} cannot be reached: the name is not found")
        case aiohttp.ClientConnectorError():
            return ServerUnavailable(f"{reached} cannot be reached: {_system(error)}")
        case aiohttp.ConnectionTimeoutError():
            return ServerUnavailable(f"{reached} cannot be reached: no connection in time")
        case TimeoutError():
            return ServerUnavailable(f"{reached} does not answer in time")
        case aiohttp.ClientResponseError():
            return ServerUnavailable(f"{reached} does not answer as an HTTP server does")
        case _:
            return ServerUnavailable(f"{reached} does not answer: the connection broke")


def _certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    reason = getattr(error.certificate_error, "verify_message", "")
    return f"its certificate is not valid here ({reason})" if reason else "its certificate is not valid here"


def _handshake(error: aiohttp.ClientSSLError) -> str:
    reason = getattr(error.os_error, "reason", None) or ""
    return "it does not speak TLS" if reason in _NO_TLS else f"TLS failed ({reason or 'no reason given'})"


def _system(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    if number == errno.ECONNREFUSED:
        return "connection refused"
    return os.strerror(number).lower() if number else "no connection"
