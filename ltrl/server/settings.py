"""What one reward server serves, and where; how it reaches the processes that do."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ltrl.backend import Model, RewardChoice
from ltrl.references import Secret

__all__ = ["ServerSettings", "new_token"]

_VARIABLE = "LTRL_REWARD_SERVER"


class ServerSettings(Model):
    """One reward server."""

    name: str
    """Name of the spec."""
    reward: RewardChoice
    """What it scores with."""
    host: str = "127.0.0.1"
    """Address to listen on; only a loopback address goes without a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8700
    """Port to listen on; 0 takes any free one."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes."""
    token: Secret | None = None
    """Where the token that requests must bring is found."""
    concurrency: Annotated[int, Field(ge=1, le=4096)] = 256
    """Requests that each process scores at once."""
    queue: Annotated[int, Field(ge=0)] = 1024
    """Further requests that wait, unread; what comes on top is told to come again."""
    upload_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest time for the bytes of one request, once it has its place."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 64 * 2**20
    """Longest request."""

    def put_into_environment(self) -> None:
        """Leaves the settings to the processes started from now on; a token is a reference there, too."""
        os.environ[_VARIABLE] = self.model_dump_json()

    @classmethod
    def from_environment(cls) -> ServerSettings:
        """What the parent process left."""
        return cls.model_validate_json(os.environ[_VARIABLE])


def new_token(path: Path) -> str:
    """A reference to a token that nobody had before, in a file that only its owner reads."""
    path = path.absolute()
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    return f"${{file:{path}}}"
