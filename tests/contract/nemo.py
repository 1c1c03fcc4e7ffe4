"""NeMo-RL's own code on a configuration, on a machine without GPUs, as far as its worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from ltrl.compile import resolved
from ltrl_backends.nemo_rl import driver
from ltrl_backends.nemo_rl.checks.rule import Conf
from ltrl_backends.nemo_rl.yaml import dump_settings

SAMPLES = 4096
"""Rows of the data set that stands for the spec's: NeMo-RL only counts them here."""


def unchecked(spec: Path, sets: tuple[str, ...]) -> str:
    """The file that the compiler would write for a spec if it checked nothing."""
    return dump_settings([], Conf(resolved(spec, sets=sets)).settings)


def refusal(text: str, directory: Path) -> str | None:
    """Why NeMo-RL does not take a configuration; None if it reaches its workers with it."""
    path = directory / "nemo_rl.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        set_up(driver.prepare(path))
    except Exception as error:  # whatever NeMo-RL raises is what its user would see
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def set_up(config: Any) -> None:
    """`setup`, the first batch's way to the data-parallel ranks, and the start of asynchronous training.

    What decides is NeMo-RL's code, untouched: the loss, `RayVirtualCluster`, `Policy`, `VllmGeneration`. Stood in for:
    placement groups, worker processes, the logger.
    """
    import torch
    from nemo_rl.algorithms import grpo
    from nemo_rl.distributed.batched_data_dict import BatchedDataDict
    from nemo_rl.models.generation import configure_generation_config

    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=1)
    config.policy["generation"] = configure_generation_config(config.policy["generation"], tokenizer)
    rows = list(range(SAMPLES))
    train = {"train": rows} if config.data["use_multiple_dataloader"] else rows
    with without_workers():
        parts = grpo.setup(config, tokenizer, train, rows)
        policy, generation = parts[:2]
        size = config.grpo["num_prompts_per_step"] * config.grpo["num_generations_per_prompt"]
        batch = {"input_ids": torch.zeros((size, 4), dtype=torch.long), "input_lengths": torch.full((size,), 4)}
        policy.train(BatchedDataDict(batch), loss_fn=None)
        if config.grpo["async_grpo"]["enabled"]:
            loaders, state = parts[4:6], parts[9]
            with suppress(ActorsReached):
                grpo.async_grpo_train(
                    policy, generation, *loaders, tokenizer, None, {}, {}, MagicMock(), None, state, config
                )


class ActorsReached(Exception):
    """Asynchronous training wants its first actor."""


@contextmanager
def without_workers() -> Iterator[None]:
    """NeMo-RL's modules with what would start processes or take GPUs replaced."""
    from nemo_rl.algorithms import grpo
    from nemo_rl.distributed.virtual_cluster import RayVirtualCluster
    from nemo_rl.models.generation.vllm import vllm_generation
    from nemo_rl.models.policy import lm_policy

    class Machines(RayVirtualCluster):
        def _init_placement_groups(self, *_: Any, **__: Any) -> list[Any]:
            return []

        def get_master_address_and_port(self) -> tuple[str, int]:
            return "127.0.0.1", 0

    def workers(*_: Any, sharding_annotations: Any, **__: Any) -> Any:
        results = {"global_loss": 0.0, "grad_norm": 0.0, "all_mb_metrics": {}}
        return MagicMock(
            dp_size=sharding_annotations.get_axis_size("data_parallel"), get_all_worker_results=lambda _: [results]
        )

    def uncounted(_: Any) -> Any:
        raise ValueError("the operations of a model are counted with its files from the Hugging Face hub")

    def actors(_: str) -> str:
        raise ActorsReached

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NRL_IGNORE_TP_ACCURACY_CHECK", "")  # set by `setup` and never taken back
        patch.setattr(grpo, "RayVirtualCluster", Machines)
        patch.setattr(grpo, "Logger", lambda _: MagicMock())
        patch.setattr(grpo, "get_actor_python_env", actors)
        for module in (grpo, lm_policy, vllm_generation):
            patch.setattr(module, "ray", MagicMock())
        for module in (lm_policy, vllm_generation):
            patch.setattr(module, "RayWorkerGroup", workers)
            patch.setattr(module, "RayWorkerBuilder", MagicMock())
        patch.setattr(lm_policy, "RayQueue", MagicMock())
        patch.setattr(lm_policy, "get_default_hf_config", uncounted)
        for name in ("print_node_ip_and_gpu_id", "init_collective"):
            patch.setattr(lm_policy.Policy, name, lambda *_, **__: [])
        of_workers = (
            "_get_tied_worker_bundle_indices",
            "_post_init",
            "_report_device_id",
            "init_collective",
            "shutdown",
        )
        for name in (*of_workers, "_report_dp_openai_server_base_urls"):
            patch.setattr(vllm_generation.VllmGeneration, name, lambda *_, **__: [])
        yield
