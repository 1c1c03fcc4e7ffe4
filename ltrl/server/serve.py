"""Listens, in one process or several, until it is told to stop; what was accepted is answered first."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable

from ltrl.backend import create
from ltrl.errors import Code, fail
from ltrl.references import reveal
from ltrl.server.access import listen, refuse_open, url_of
from ltrl.server.logs import CONFIG
from ltrl.server.metrics import DIRECTORY
from ltrl.server.settings import ServerSettings

__all__ = ["serve"]

MODULES = ("fastapi", "prometheus_client", "uvicorn")
APP = "ltrl.server.app:app"


def serve(settings: ServerSettings, *, on_listening: Callable[[str], None], stop_at_end_of_input: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, or with `stop_at_end_of_input` until whoever started it is gone.

    `on_listening` is told the URL. Raises LtrlError for what can be known before.
    """
    if missing := [name for name in MODULES if importlib.util.find_spec(name) is None]:
        listed = ", ".join(f"`{name}`" for name in missing)
        message = f"the reward server needs {listed}, not installed here"
        raise fail(Code.MISSING_EXTRA, message, hint="pip install 'ltrl[server]'")
    if settings.token is not None:
        reveal(settings.token, what="the server's token")
    refuse_open(settings.host, settings.token, hint="`--token-file PATH`, or the variable LTRL_REWARD_TOKEN")
    create(settings.reward)  # a key that is not there is told now, not by every worker
    import uvicorn

    listening = listen(settings.host, settings.port)
    with tempfile.TemporaryDirectory(prefix="ltrl-reward-") as directory:
        os.environ[DIRECTORY] = directory  # before anything imports prometheus_client
        settings.put_into_environment()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends with the signal again, for us to clean up
        if stop_at_end_of_input:
            threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
        on_listening(url_of(listening))
        uvicorn.run(
            APP,
            factory=True,
            fd=listening.fileno(),
            workers=settings.workers,
            log_config=CONFIG,
            access_log=False,
            backlog=2048,
            timeout_keep_alive=75,
            server_header=False,
        )


def _stop_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
