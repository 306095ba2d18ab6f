"""Addresses of servers: checked when they are given, shown as host and port, and whose certificates they need."""

import ssl
from pathlib import Path

from yarl import URL


def web_address(argument: str, address: str) -> str:
    """`address`, the value of this argument.

    Raises:
        ValueError: it is not an absolute http or https URL.
    """
    try:
        url = URL(address)
        good = url.scheme in ("http", "https") and bool(url.host)
    except ValueError:
        good = False
    if not good:  # not repeated here: an address may hold a secret
        raise ValueError(f"{argument}: not an address that begins with http:// or https:// and a host")
    return address


def api_root(argument: str, address: str) -> str:
    """`address` without a slash at its end; ValueError as `web_address`."""
    return web_address(argument, address).rstrip("/")


def host_and_port(url: str | URL) -> str:
    """The part of a valid URL that is no secret."""
    parsed = URL(url)
    return f"{parsed.host_subcomponent}:{parsed.port}"


def trusting(ca_file: Path | None) -> ssl.SSLContext | None:
    """TLS that trusts the CAs of a PEM file and nobody else; None: what Python and the system trust.

    Raises:
        ValueError: there is no such file, or no certificate in it.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of which ssl.SSLError is one
        raise ValueError(f"ca_file: {ca_file} is not a PEM file of certificates that can be read") from error
