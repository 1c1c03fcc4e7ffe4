"""`python -m ltrl.server.stage BUNDLE`: serves the reward of a run, as its stage `reward-server`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrl import service
from ltrl.backend import RewardSection, load
from ltrl.errors import LtrlError
from ltrl.server.settings import ServerSettings, new_token

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is told to stop; 1 for what a person can mend."""
    from ltrl.server import serve

    (bundle,) = arguments or sys.argv[1:]
    here = Path.cwd()
    spec = json.loads((Path(bundle) / "resolved.json").read_bytes())["spec"]
    try:
        options: type[RewardSection] = load("reward", spec["reward"]["backend"]).Options
        reward = options.model_validate(spec["reward"], strict=False)
        assert reward.server is not None, "compiling has seen to it"
        token = new_token(here / "reward_server.token")
        settings = ServerSettings(
            name=spec["name"],
            reward=reward,
            host=service.reachable_host(),
            port=reward.server.port,
            workers=reward.server.workers,
            token=token,
        )
        serve(settings, on_listening=lambda url: service.publish(here, url, token=token))
    except LtrlError as error:
        sys.stderr.write("".join(f"error[{d.code}]: {d.message}\n" for d in error.diagnostics))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
