"""Rewards that a server computes, for an engine that would compute them itself otherwise."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ltrl import service
from ltrl.backend import RewardBackend, RewardSection, RewardServer, create, load
from ltrl.client import RewardClient
from ltrl.errors import Code, LtrlError, fail
from ltrl.references import reveal
from ltrl.reward_stage import REWARD_SERVER
from ltrl.scoring import Score, ScoreRequest
from ltrl.server.settings import ServerSettings, new_token
from ltrl.wire import reward_id

__all__ = ["connect", "hosted"]

_END_SECONDS = 60.0


def connect(section: RewardSection) -> RewardBackend:
    """The reward of a section: the backend itself, or a client of the server that the section names."""
    if section.server is None:
        backend: RewardBackend = create(section)
        return backend
    return _ServedReward(section, section.server)


@contextlib.contextmanager
def hosted(section: RewardSection, *, name: str, directory: Path, host: str = "127.0.0.1") -> Iterator[RewardSection]:
    """The section with the URL of a server that is ready, for as long as the context lasts.

    A section without a server comes back as it is. One that says nothing of where it is gets that of the run's stage
    `reward-server`, or one of its own: a process with settings, token and log in `directory`, which ends with the
    context or with this process, however that ends. Raises LtrlError when the server is not there, or scores with
    another reward.
    """
    server = section.server
    if server is None:
        yield section
        return
    if server.url is None and server.address is None and (file := service.address(REWARD_SERVER)):
        server = server.model_copy(update={"address": str(file)})
        section = section.model_copy(update={"server": server})
    if server.url is not None or server.address is not None:
        _require_same(section, server)
        yield section
        return
    with _own(section, server, name=name, directory=directory, host=host) as found:
        of_its_own = section.model_copy(update={"server": found})
        _require_same(of_its_own, found)
        yield of_its_own


class _ServedReward:
    """Scores in a server, rewards of groups here."""

    api: ClassVar[int] = 1
    Options: ClassVar[type[RewardSection]] = RewardSection

    def __init__(self, section: RewardSection, server: RewardServer) -> None:
        self._client = _client(server)
        self._here = create(_without_judge(section))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """One score for each request; unjudged where the server gave none.

        What needs no judge is then found here, so that an outage changes no other response's reward.
        """
        scores = self._client.score(requests)
        lost = [place for place, score in enumerate(scores) if not score.is_judged]
        for place, here in zip(lost, self._here.score([requests[place] for place in lost]), strict=True):
            is_known = bool(here.zeroed)
            scores[place] = here if is_known else replace(here, outcome=None, verdict=scores[place].verdict)
        return scores

    def rewards(self, group: Sequence[Score]) -> list[float | None]:
        """The rewards of one prompt's scores."""
        found: list[float | None] = self._here.rewards(group)
        return found


def _without_judge(section: RewardSection) -> RewardSection:
    """The same reward with a judge that needs neither key nor endpoint: rewards of groups are pure."""
    if "judge" not in type(section).model_fields:
        return section
    return section.model_copy(update={"judge": load("judge", "exact").Options(backend="exact")})


def _client(server: RewardServer) -> RewardClient:
    locate = None
    url, token = server.url, server.token
    if server.address is not None:
        path = Path(server.address)

        def locate() -> tuple[str, str | None] | None:
            found = service.find(path)
            try:
                return (found.url, _token(found.token)) if found else None
            except LtrlError:  # it is being started again
                return None

        where = service.find(path)
        if where is None:
            raise fail(Code.SERVER_DOWN, f"`{path}` does not say where the reward server is")
        url, token = where.url, where.token
    assert url is not None, "the driver hosts it before anything connects"
    return RewardClient(
        url,
        token=_token(token),
        locate=locate,
        concurrency=server.concurrency,
        timeout_seconds=server.timeout_seconds,
        patience_seconds=server.patience_seconds,
    )


def _token(reference: str | None) -> str | None:
    return reveal(reference, what="the reward server's `token`") if reference else None


def _require_same(section: RewardSection, server: RewardServer) -> None:
    with contextlib.closing(_client(server)) as client:
        ready = client.ready()
    if not ready.is_authorized:
        raise fail(
            Code.SERVER_DOWN,
            f"the reward server at `{client.url}` takes no requests without its token",
            hint="say where the token is found: `token: ${env:NAME}` or `token: ${file:PATH}`",
        )
    expected = reward_id(section)
    if ready.reward != expected:
        raise fail(
            Code.OTHER_REWARD,
            f"the server at `{client.url}` serves `{ready.name}`, whose reward is another: {ready.reward}, "
            f"this run's is {expected}",
            hint="serve the spec of this run: `ltrl serve reward SPEC`",
        )


@contextlib.contextmanager
def _own(
    section: RewardSection, server: RewardServer, *, name: str, directory: Path, host: str
) -> Iterator[RewardServer]:
    directory.mkdir(parents=True, exist_ok=True)
    token = directory / "reward_server.token"
    reference = new_token(token)
    settings = ServerSettings(
        name=name, reward=section, host=host, port=server.port, workers=server.workers, token=reference
    )
    written = directory / "reward_server.json"
    written.write_text(settings.model_dump_json(indent=2), encoding="utf-8")
    log = directory / "reward_server.log"
    try:
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "ltrl.server", str(written)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        with process:
            assert process.stdout is not None
            try:
                if not (url := process.stdout.readline().strip()):
                    last = log.read_text("utf-8", "replace").strip().rpartition("\n")[2]
                    raise fail(Code.SERVER_DOWN, f"the reward server did not start: {last}", hint=f"see `{log}`")
                yield server.model_copy(update={"url": url, "token": reference})
            finally:
                _end(process)
    finally:
        token.unlink(missing_ok=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()  # answers what it accepted
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
