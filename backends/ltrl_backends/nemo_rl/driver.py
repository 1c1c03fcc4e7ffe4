"""`python -m ltrl_backends.nemo_rl.driver bundle/nemo_rl.yaml`: NeMo-RL's GRPO training in the current directory.

What examples/run_grpo.py of NeMo-RL does, with our data set, processor, environments and hooks in place. Runs inside
the job, where NeMo-RL is installed; everything of it is imported here and nowhere else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltrl.backend import RewardSection, load
from ltrl.checkpoints import put_unusable_aside
from ltrl.errors import Code, LtrlError, fail, unreadable
from ltrl.served import connect, hosted
from ltrl_backends.nemo_rl.config import PROCESSOR, TRAIN
from ltrl_backends.nemo_rl.tracking import keep_run

__all__ = ["main", "prepare", "register", "train"]

ENVIRONMENT = "ltrl_backends.nemo_rl.environment.LtrlEnvironment"


def main(arguments: Sequence[str], *, setup: Callable[..., Any] | None = None) -> int:
    """Trains to the end or to the end of the job's time; 1 for a mistake of the user's. `setup`: see `train`."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m ltrl_backends.nemo_rl.driver CONFIG\n")
        return 2
    try:
        train(Path(arguments[0]), setup=setup)
    except LtrlError as error:
        for diagnostic in error.diagnostics:
            hint = f"\nhint: {diagnostic.hint}" if diagnostic.hint else ""
            sys.stderr.write(f"error[{diagnostic.code}]: {diagnostic.message}{hint}\n")
        return 1
    return 0


def train(path: Path, *, setup: Callable[..., Any] | None = None) -> None:
    """Runs the training of a configuration file; `setup` stands for NeMo-RL's own, which needs GPUs."""
    from nemo_rl.distributed.virtual_cluster import init_ray
    from nemo_rl.utils.logger import get_next_experiment_dir

    config = prepare(path)
    register(_section(config, "env"))
    _tidy(Path(_section(config, "checkpointing")["checkpoint_dir"]))
    logger_config = _section(config, "logger")
    logger_config["log_dir"] = get_next_experiment_dir(logger_config["log_dir"])
    Path(logger_config["log_dir"]).mkdir(parents=True, exist_ok=True)
    keep_run(logger_config, Path.cwd())
    init_ray()
    with _rewards(config, Path(logger_config["log_dir"])):
        _train(config, setup)


def _tidy(checkpoints: Path) -> None:
    """NeMo-RL resumes from the highest `step_N`, whatever is in it: damaged ones must not be there."""
    try:
        found = put_unusable_aside(checkpoints)
    except OSError as error:
        raise LtrlError(unreadable(error, f"`{error.filename or checkpoints}`")) from None
    for damaged in found:
        sys.stderr.write(f"set aside: `{damaged.directory.name}`, {'; '.join(damaged.problems)}\n")


def _train(config: Any, setup: Callable[..., Any] | None) -> None:
    from nemo_rl.algorithms import grpo
    from nemo_rl.algorithms.utils import get_tokenizer
    from nemo_rl.data.utils import setup_response_data
    from nemo_rl.models.generation import configure_generation_config

    from ltrl_backends.nemo_rl import retention, walltime
    from ltrl_backends.nemo_rl.hooks import Groups, MetricsLog, install, keep_special_tokens

    policy = _section(config, "policy")
    tokenizer = keep_special_tokens(get_tokenizer(policy["tokenizer"]))
    policy["generation"] = configure_generation_config(policy["generation"], tokenizer)
    dataset, validation, environments, validation_environments = setup_response_data(
        tokenizer, _section(config, "data"), _section(config, "env")
    )
    algorithm = _section(config, "grpo")
    _refuse_too_few(len(dataset), algorithm["num_prompts_per_step"])

    groups = _groups(config, Groups)
    install(grpo, groups)
    parts = (setup or grpo.setup)(config, tokenizer, dataset, validation)
    made = _parts(parts)
    made["logger"] = MetricsLog(made["logger"], Path(_section(config, "logger")["log_dir"]), groups)
    named = ("policy", "policy_generation", "dataloader", "val_dataloader")
    rest = ("logger", "checkpointer", "grpo_save_state", "master_config")
    given = [*(made[name] for name in named), tokenizer, made["loss_fn"], environments, validation_environments]
    walltime.install(grpo, _section(made["master_config"], "checkpointing"))
    retention.install(made["checkpointer"], _section(config, "checkpointing"))
    given += [made[name] for name in rest]  # by position, as run_grpo.py does: their names differ between versions
    overlap = algorithm["async_grpo"]
    if overlap["enabled"]:
        grpo.async_grpo_train(*given, max_trajectory_age_steps=overlap["max_trajectory_age_steps"])
    else:
        grpo.grpo_train(*given)


def prepare(path: Path) -> Any:
    """NeMo-RL's own configuration object for a file."""
    from nemo_rl.algorithms.grpo import MasterConfig
    from nemo_rl.utils import config as nemo_config
    from omegaconf import OmegaConf  # type: ignore[import-not-found, unused-ignore]

    if hasattr(nemo_config, "register_omegaconf_resolvers"):
        nemo_config.register_omegaconf_resolvers()
    return MasterConfig(**OmegaConf.to_container(nemo_config.load_config(str(path)), resolve=True))


def register(environments: Mapping[str, Any]) -> None:
    """Makes our processor and environments known to NeMo-RL, which has no other way to find them."""
    import nemo_rl.data.utils as data_utils
    from nemo_rl.data.processors import PROCESSOR_REGISTRY, register_processor
    from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
    from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
    from nemo_rl.environments.utils import ENV_REGISTRY, register_env

    from ltrl_backends.nemo_rl.processor import process

    if PROCESSOR not in PROCESSOR_REGISTRY:
        register_processor(PROCESSOR, process)
    ACTOR_ENVIRONMENT_REGISTRY[ENVIRONMENT] = PY_EXECUTABLES.SYSTEM
    ours = [name for name, block in environments.items() if isinstance(block, Mapping) and "role" in block]
    for name in ours:
        if name not in ENV_REGISTRY:
            register_env(name, ENVIRONMENT)
    _register_dataset(data_utils)
    # NeMo-RL does not look into a list of validation sets for the environments that they need.
    data_utils.extract_necessary_env_names = lambda _: ours


def _register_dataset(data_utils: Any) -> None:
    """For 0.6.0, which finds no data set by its dotted name and joins Arrow tables alone."""
    from nemo_rl.data.datasets import response_datasets

    from ltrl_backends.nemo_rl.config import DATASET
    from ltrl_backends.nemo_rl.dataset import LtrlDataset

    if hasattr(data_utils, "merge_datasets"):
        return
    response_datasets.DATASET_REGISTRY[DATASET] = LtrlDataset
    data_utils.concatenate_datasets = lambda tables: [row for table in tables for row in table]


def _section(config: Any, name: str) -> Any:
    """A section of the configuration: an attribute since 0.7.0, a key before."""
    return config[name] if isinstance(config, dict) else getattr(config, name)


@contextlib.contextmanager
def _rewards(config: Any, directory: Path) -> Iterator[None]:
    """Has a reward server ready that the spec asks for, and its address in the environments' sections."""
    import ray

    blocks = [block for block in _section(config, "env").values() if isinstance(block, dict) and "role" in block]
    section = _reward(_section(config, "env")[TRAIN]["reward"])
    host = ray.util.get_node_ip_address() if section.server else ""
    with hosted(section, name=Path.cwd().name, directory=directory, host=host) as found:
        for block in blocks:
            block["reward"] = found.model_dump(mode="json")
        yield


def _reward(section: Mapping[str, Any]) -> RewardSection:
    options: RewardSection = load("reward", section["backend"]).Options.model_validate(section, strict=False)
    return options


def _groups(config: Any, make: Callable[..., Any]) -> Any:
    section = _section(config, "env")[TRAIN]["reward"]
    algorithm = _section(config, "grpo")
    options = _reward(section)
    return make(
        connect(options),
        outage=options.outage,
        group_size=algorithm["num_generations_per_prompt"],
        divide_by_std=algorithm["adv_estimator"]["normalize_rewards"],
        leave_one_out=algorithm["adv_estimator"]["use_leave_one_out_baseline"],
    )


def _parts(found: Sequence[Any]) -> dict[str, Any]:
    """What NeMo-RL's `setup` returns, by name: 13 things since 0.7.0, 10 before."""
    names = ["policy", "policy_generation", "nemo_gym", "cluster", "dataloader", "val_dataloader", "loss_fn"]
    names += ["logger", "checkpointer", "grpo_save_state", "master_config"]
    if len(found) < len(names):
        names.remove("nemo_gym")
    return dict(zip(names, found, strict=False))


def _refuse_too_few(samples: int, prompts: int) -> None:
    if samples < prompts:
        raise fail(
            Code.BAD_DATA,
            f"the training data has {samples} samples whose prompts fit, a step takes {prompts}",
            hint="a smaller `algorithm.prompts_per_step`, or a longer `model.context.prompt`",
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
