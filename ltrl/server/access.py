"""Where a server listens and who may ask it: only a loopback address goes without a token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import socket

from ltrl.errors import Code, fail

__all__ = ["brings", "listen", "refuse_open", "url_of"]


def refuse_open(host: str, token: str | None, *, hint: str) -> None:
    """Raises LtrlError, INSECURE, for an address that other machines reach when there is no token."""
    if token is None and not _is_loopback(host):
        message = f"`{host}` can be reached from other machines: a token is needed"
        raise fail(Code.INSECURE, message, hint=f"{hint}; or listen on 127.0.0.1")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens and that child processes get; raises LtrlError, CANNOT_LISTEN."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "another `--port`, 0 takes any free one; or another `--host`"
        raise fail(Code.CANNOT_LISTEN, f"cannot listen on `{host}` port {port}: {reason}", hint=hint) from error
    listening.set_inheritable(True)
    return listening


def url_of(listening: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def brings(authorization: str, token: bytes) -> bool:
    """Whether a request brings the token: as bearer, or as the password of a URL like `http://:TOKEN@host`."""
    return hmac.compare_digest(_password(authorization), token)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            pass
    return b""
