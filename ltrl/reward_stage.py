"""The stage `reward-server`: a job that computes rewards beside the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ltrl.backend import RewardServer, Stage
from ltrl.errors import Code, fail

if TYPE_CHECKING:
    from ltrl.plan import Plan

__all__ = ["REWARD_SERVER", "reward_server"]

REWARD_SERVER = "reward-server"
"""Its name."""


def reward_server(plan: Plan) -> Stage:
    """The stage, for engines whose driver takes its reward from `ltrl.served.hosted`.

    Raises LtrlError when the spec has it and says that rewards are computed elsewhere.
    """
    spec = plan.resolved.spec
    server = spec.reward.server
    if REWARD_SERVER in spec.stages and (server is None or server.url or server.address):
        message = "rewards are computed in the driver" if server is None else "another server computes the rewards"
        position = plan.resolved.at(f"stages.{spec.stages.index(REWARD_SERVER)}")
        hint = "`reward: {server: {}}` has them computed in this one"
        raise fail(Code.STAGE, f"the stage `{REWARD_SERVER}` would serve nobody: {message}", position, hint=hint)
    command = ("python", "-m", "ltrl.server.stage", "../../bundle")
    workers = server.workers if server else RewardServer().workers
    launch = plan.launch
    spare = 10 if launch.executor == "local" else 0  # nobody starts it again there
    return Stage(
        REWARD_SERVER,
        command,
        before_training=True,
        is_service=True,
        minutes=launch.minutes + spare,
        cpus_per_node=workers + 1,
        memory="8G",
    )
