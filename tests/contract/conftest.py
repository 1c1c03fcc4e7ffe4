"""The tests of this directory run NeMo-RL's own code, from the checkout at $NEMO_RL: README.md."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ltrl_backends.nemo_rl.rehearsal import checkout

HERE = Path(__file__).parent
if os.environ.get(checkout.VARIABLE):
    checkout.use()

MEASURED = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("contract")
            item.add_marker(pytest.mark.filterwarnings("ignore"))  # NeMo-RL's and its libraries'
            if reason:
                item.add_marker(pytest.mark.skip(reason))


def missing() -> str:
    """Why these tests cannot run; empty where they can."""
    if not os.environ.get("NEMO_RL"):
        return "NEMO_RL does not name a checkout of NeMo-RL v0.7.0: make contract NEMO_RL=<checkout>"
    if importlib.util.find_spec("nemo_rl") is None:
        return f"nemo_rl cannot be imported (NEMO_RL is {os.environ['NEMO_RL']}): run it with `make contract`"
    return ""


@pytest.fixture(scope="session", autouse=True)
def _offline(_of_their_own: None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the summary: what was measured, beside what was asserted."""
    return request.config.stash.setdefault(MEASURED, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(MEASURED, []):
        terminalreporter.section("measured")
        for line in config.stash[MEASURED]:
            terminalreporter.write_line(line)
