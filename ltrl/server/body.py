"""The bytes of a request, within limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request

__all__ = ["Refused", "read_body"]


class Refused(Exception):
    """A request whose bytes do not come or do not end."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        """HTTP status."""
        self.detail = detail
        """What its client is told."""


async def read_body(request: Request, *, max_bytes: int, seconds: float) -> bytes:
    """The bytes of a request; raises Refused."""
    from starlette.requests import ClientDisconnect

    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise Refused(413, f"a request of more than {max_bytes} bytes")
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise Refused(499, "the client went away") from None
    return bytes(body)
