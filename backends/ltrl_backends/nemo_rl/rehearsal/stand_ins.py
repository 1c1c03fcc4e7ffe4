"""What takes the places of GPUs in a rehearsal.

Everything else is what the job runs: NeMo-RL's loader, `setup`, trainers, rollouts, checkpoints and logs; our data set,
processor, environments, rewards and hooks. Only what needs a GPU is stood in for: `Machines` for the cluster's GPUs,
`Policy` for Megatron, `Engine` for vLLM. Both run the Hugging Face model that the configuration names, which has to be
small: the policy in this process, the engine in a Ray actor that gets the weights at each refit. Imported once NeMo-RL
can be.
"""

from __future__ import annotations

import copy
import inspect
import math
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from nemo_rl.distributed.batched_data_dict import BatchedDataDict
from nemo_rl.distributed.named_sharding import NamedSharding
from nemo_rl.models.generation.interfaces import GenerationInterface
from nemo_rl.models.policy.interfaces import ColocatablePolicyInterface

__all__ = ["Engine", "Machines", "Policy", "setup", "start_ray"]

LOGITS = 1 << 28
"""Numbers that the model may give at once, 1 GiB: packing is Megatron's, here a batch is cut into rows."""
CLOSING = "\n</think>\n\nrehearsed"
"""How every second response of a random model ends, so that there is an answer to judge."""
OPTIMIZER = "optimizer.pt"
ON_NODES_OF_THEIR_OWN = ("AsyncTrajectoryCollector", "ReplayBuffer")
"""Actors of asynchronous training that NeMo-RL gives vLLM's environment."""

Tensors = dict[str, torch.Tensor]


def setup(config: Any, tokenizer: Any, dataset: Any, validation: Any, *, engine: Callable[..., Any]) -> Any:
    """NeMo-RL's `setup`, with stand-ins where it would take GPUs."""
    from nemo_rl.algorithms import grpo
    from nemo_rl.distributed import ray_actor_environment_registry as actors

    for name in actors.ACTOR_ENVIRONMENT_REGISTRY:
        if name.endswith(ON_NODES_OF_THEIR_OWN):
            actors.ACTOR_ENVIRONMENT_REGISTRY[name] = sys.executable
    weights = Weights()
    grpo.RayVirtualCluster = Machines
    section = config["policy"] if isinstance(config, dict) else config.policy
    grpo.VllmGeneration = partial(engine, tokenizer=tokenizer, policy=section, weights=weights)
    policy = partial(Policy, sent=weights)
    if "policy_factory" in inspect.signature(grpo.setup).parameters:
        return grpo.setup(config, tokenizer, dataset, validation, policy_factory=policy)
    grpo.Policy = policy  # 0.6.0
    return grpo.setup(config, tokenizer, dataset, validation)


def start_ray() -> None:
    """A Ray of its own: NeMo-RL would join any that runs on this machine, a colleague's too."""
    ray.init(address="local", include_dashboard=False, runtime_env={"env_vars": dict(os.environ)})
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # NeMo-RL asks for "the" Ray of the machine


class Machines:
    """The cluster's GPUs, counted and never used."""

    def __init__(self, bundle_ct_per_node_list: Sequence[int], **_: Any) -> None:
        self._gpus_per_node = list(bundle_ct_per_node_list)

    def world_size(self) -> int:
        """GPUs of all nodes."""
        return sum(self._gpus_per_node)

    def get_master_address_and_port(self) -> tuple[str, int]:
        """Where the processes of a real cluster would meet."""
        return "127.0.0.1", 0


class Weights:
    """The weights that the policy sent last, on their way to the engine."""

    latest: Any = None


class _StandIn:
    """What NeMo-RL asks of workers on GPUs and needs no answer: memory moved, profilers, collectives."""

    def _nothing(self, *_: Any, **__: Any) -> None: ...

    def _done(self, *_: Any, **__: Any) -> bool:
        return True

    def _no_one(self, *_: Any, **__: Any) -> list[Any]:
        return []

    init_collective = _no_one
    prepare_refit_info = _nothing
    start_gpu_profiling = stop_gpu_profiling = _nothing
    shutdown = _done


class Engine(_StandIn, GenerationInterface):  # type: ignore[misc, unused-ignore]
    """Stands for vLLM: samples in an actor, whose weights change at a refit only."""

    def __init__(
        self,
        *,
        config: Mapping[str, Any],
        tokenizer: Any,
        policy: Mapping[str, Any],
        weights: Weights,
        closes: bool = False,
        **_: Any,
    ) -> None:
        self.cfg = config
        self._weights = weights
        sampler = ray.remote(_Sampler).options(runtime_env={"env_vars": dict(os.environ)})
        self._sampler = sampler.remote(dict(policy), dict(config), tokenizer, closes)

    def generate(self, data: Any, greedy: bool = False) -> Any:
        """Responses to a batch of prompts, as NeMo-RL's GenerationOutputSpec."""
        return BatchedDataDict(ray.get(self._sampler.sample.remote(data["input_ids"], data["input_lengths"], greedy)))

    async def generate_async(self, data: Any, greedy: bool = False) -> AsyncIterator[tuple[int, Any]]:
        """(index, response) one by one, for the asynchronous rollouts."""
        for index in range(len(data["input_lengths"])):
            row = slice(index, index + 1)
            found = await self._sampler.sample.remote(data["input_ids"][row], data["input_lengths"][row], greedy)
            yield index, BatchedDataDict(found)

    def update_weights_via_ipc_zmq(self) -> list[Any]:
        """Takes over what the policy sent."""
        return [self._sampler.load.remote(self._weights.latest)]

    update_weights_from_collective = update_weights_via_ipc_zmq
    prepare_for_generation = finish_generation = invalidate_kv_cache = _StandIn._done


class _Sampler:
    """The engine's model, in a process of its own."""

    def __init__(self, policy: dict[str, Any], generation: dict[str, Any], tokenizer: Any, closes: bool) -> None:
        torch.manual_seed(0)
        self._model = _model(policy).eval()
        self._cfg = generation
        self._stops = sorted({tokenizer.eos_token_id, *(generation["stop_token_ids"] or ())})
        self._pad = tokenizer.pad_token_id
        ending = tokenizer(CLOSING, add_special_tokens=False)["input_ids"] if closes else []
        self._ending = torch.tensor([*ending, tokenizer.eos_token_id] if closes else [], dtype=torch.long)
        self._sampled = 0

    def load(self, weights: Tensors) -> bool:
        self._model.load_state_dict(weights)
        return True

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def sample(self, ids: torch.Tensor, lengths: torch.Tensor, greedy: bool) -> Tensors:
        """Padded on the right, prompts included; log-probabilities at the sampling temperature."""
        cfg, width = self._cfg, int(lengths.max())
        prompts = torch.full((len(ids), width), self._pad)
        mask = torch.zeros_like(prompts)
        for row, length in enumerate(lengths.tolist()):
            prompts[row, width - length :] = ids[row, :length]
            mask[row, width - length :] = 1
        options = {"temperature": cfg["temperature"], "top_p": cfg["top_p"], "top_k": cfg["top_k"] or 0}
        found = self._model.generate(
            input_ids=prompts,
            attention_mask=mask,
            max_new_tokens=min(cfg["max_new_tokens"], cfg["vllm_cfg"]["max_model_len"] - width),
            do_sample=not greedy,
            eos_token_id=self._stops,
            pad_token_id=self._pad,
            **({} if greedy else options),
        )
        new = self._closed(found[:, width:])
        whole, seen = torch.cat([prompts, new], 1), torch.cat([mask, torch.ones_like(new)], 1)
        positions = (seen.cumsum(1) - 1).clamp(min=0)
        logprobs = torch.cat(
            [
                _chosen(
                    self._model(whole[r], attention_mask=seen[r], position_ids=positions[r]).logits[:, width - 1 : -1]
                    / cfg["temperature"],
                    new[r],
                )
                for r in _row_slices(whole, self._model)
            ]
        )
        is_stop = torch.isin(new, torch.tensor(self._stops))
        counts = ((is_stop.cumsum(1) - is_stop.long()) == 0).sum(1)
        output = torch.full((len(ids), width + new.shape[1]), self._pad)
        told = torch.zeros(output.shape)
        for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            output[row, :length] = ids[row, :length]
            output[row, length : length + count] = new[row, :count]
            told[row, length : length + count] = logprobs[row, :count]
        return {
            "output_ids": output,
            "generation_lengths": counts,
            "unpadded_sequence_lengths": lengths + counts,
            "logprobs": told,
            "truncated": ~is_stop.any(1),
        }

    def _closed(self, new: torch.Tensor) -> torch.Tensor:
        """The responses, every second of them with an ending and an answer if this engine gives one."""
        size = len(self._ending)
        for row in range(len(new)) if size else ():
            self._sampled += 1
            if self._sampled % 2 and size <= new.shape[1]:
                new[row, -size:] = self._ending
        return new


class Policy(_StandIn, ColocatablePolicyInterface):  # type: ignore[misc, unused-ignore]
    """Stands for Megatron: AdamW, clipped gradients and the configured learning rates on one model."""

    def __init__(
        self,
        *,
        config: dict[str, Any],
        tokenizer: Any,
        weights_path: str | None,
        optimizer_path: str | None,
        init_reference_model: bool = True,
        sent: Weights,
        **_: Any,
    ) -> None:
        self.cfg = config
        self.sharding_annotations = NamedSharding(
            layout=np.zeros((1, 1, 1, 1), dtype=int),
            names=["pipeline_parallel", "data_parallel", "context_parallel", "tensor_parallel"],
        )
        self._sent = sent
        self._tokenizer = tokenizer
        self._model = _model(config)
        self._reference = copy.deepcopy(self._model) if init_reference_model else None
        if weights_path:
            self._model = _model(config, weights_path)
        adam = config["megatron_cfg"]["optimizer"]
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(),
            betas=(adam["adam_beta1"], adam["adam_beta2"]),
            eps=adam["adam_eps"],
            weight_decay=adam["weight_decay"],
        )
        self._ticks = 0
        if optimizer_path:
            kept = torch.load(Path(optimizer_path) / OPTIMIZER, weights_only=True)
            self._ticks = kept["ticks"]
            self._optimizer.load_state_dict(kept["optimizer"])

    def get_logprobs(self, data: Any, **_: Any) -> Any:
        """Log-probabilities [B, T]; the first column, which nothing precedes, is 0."""
        return BatchedDataDict({"logprobs": self._padded(self._model, data)})

    def get_reference_policy_logprobs(self, data: Any, **_: Any) -> Any:
        """The same of the model that training began with."""
        assert self._reference is not None
        return BatchedDataDict({"reference_logprobs": self._padded(self._reference, data)})

    def train(
        self,
        data: Any,
        loss_fn: Callable[..., tuple[torch.Tensor, dict[str, Any]]],
        *,
        gbs: int | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """One update for each global batch of the configuration."""
        size = gbs or self.cfg["train_global_batch_size"]
        losses, norms, metrics = [], [], defaultdict(list)
        for start in range(0, data.size, size):
            batch = data.slice(start, min(data.size, start + size))
            sequences = batch["sample_mask"].sum()
            tokens = (batch["token_mask"][:, 1:] * batch["sample_mask"][:, None]).sum()
            rate = self._learning_rate()
            self._model.train()
            losses.append(0.0)
            for part in _row_slices(batch["input_ids"], self._model):
                rows = batch.slice(part.start, min(batch.size, part.stop))
                loss, told = loss_fn(
                    data=rows,
                    global_valid_seqs=sequences,
                    global_valid_toks=tokens,
                    next_token_logprobs=self._next(self._model, rows),
                )
                loss.backward()
                losses[-1] += loss.item()
                counts = {"global_valid_seqs": sequences.item(), "global_valid_toks": tokens.item()}
                for name, value in {**told, **counts, "lr": rate}.items():
                    metrics[name].append(value)
            limit = self.cfg["max_grad_norm"] or math.inf
            norms.append(torch.nn.utils.clip_grad_norm_(self._model.parameters(), limit).item())
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._ticks += 1
        return {
            "loss": torch.tensor(losses),
            "grad_norm": torch.tensor(norms),
            "all_mb_metrics": dict(metrics),
        }

    def save_checkpoint(
        self, weights_path: str, optimizer_path: str | None = None, tokenizer_path: str | None = None, **_: Any
    ) -> None:
        """Weights and tokenizer in Hugging Face's layout."""
        self._model.save_pretrained(weights_path)
        if tokenizer_path:
            self._tokenizer.save_pretrained(tokenizer_path)
        if optimizer_path:
            Path(optimizer_path).mkdir(parents=True, exist_ok=True)
            kept = {"optimizer": self._optimizer.state_dict(), "ticks": self._ticks}
            torch.save(kept, Path(optimizer_path) / OPTIMIZER)

    def stream_weights_via_ipc_zmq(self, *_: Any, **__: Any) -> list[Any]:
        """Puts the weights where the engine takes them."""
        self._sent.latest = ray.put({name: value.detach() for name, value in self._model.state_dict().items()})
        return []

    broadcast_weights_for_collective = stream_weights_via_ipc_zmq
    prepare_for_training = finish_training = prepare_for_lp_inference = _StandIn._nothing
    offload_before_refit = offload_after_refit = finalize_async_save = _StandIn._nothing
    calibrate_qkv_fp8_scales = get_topk_logits = print_node_ip_and_gpu_id = _StandIn._nothing

    def get_free_memory_bytes(self) -> int:
        """Bounds the buffers of a real refit."""
        return 1 << 30

    def _learning_rate(self) -> float:
        optimizer, schedule = self.cfg["megatron_cfg"]["optimizer"], self.cfg["megatron_cfg"]["scheduler"]
        peak, low, warmup = optimizer["lr"], optimizer["min_lr"], schedule["lr_warmup_iters"]
        if self._ticks < warmup:
            start = schedule["lr_warmup_init"]
            return float(start + (peak - start) * (self._ticks + 1) / warmup)
        done = min(1.0, (self._ticks - warmup) / max(1, schedule["lr_decay_iters"] - warmup))
        match schedule["lr_decay_style"]:
            case "linear":
                left = 1 - done
            case "cosine":
                left = (1 + math.cos(math.pi * done)) / 2
            case _:
                return float(peak)
        return float(low + (peak - low) * left)

    def _next(self, model: Any, data: Any) -> torch.Tensor:
        """Log-probabilities [B, T - 1] of each token but the first. NeMo-RL's own way to them wants a GPU."""
        ids = data["input_ids"]
        mask = (torch.arange(ids.shape[1])[None] < data["input_lengths"][:, None]).long()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        return _chosen(logits / self.cfg["generation"]["temperature"], ids[:, 1:])

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def _padded(self, model: Any, data: Any) -> torch.Tensor:
        model.eval()
        parts = _row_slices(data["input_ids"], model)
        found = torch.cat([self._next(model, data.slice(p.start, min(data.size, p.stop))) for p in parts])
        return torch.nn.functional.pad(found, (1, 0))


def _model(policy: Mapping[str, Any], path: str | None = None) -> Any:
    from transformers import AutoModelForCausalLM

    overrides = policy.get("hf_config_overrides") or {}
    return AutoModelForCausalLM.from_pretrained(path or policy["model_name"], dtype=torch.float32, **overrides)


def _row_slices(ids: torch.Tensor, model: Any) -> Iterator[slice]:
    """Rows [B, T] in parts whose logits fit."""
    size = max(1, LOGITS // (ids.shape[1] * model.config.vocab_size))
    return (slice(start, start + size) for start in range(0, len(ids), size))


def _chosen(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the given tokens."""
    return logits.float().log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
