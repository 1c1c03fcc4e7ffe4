"""TRL's GRPO trainer with our reward, our metrics and our checkpoints.

TRL has no public hook for three things, so that three of its methods are wrapped: `_generate_and_score_completions`
(whose result is the only place that holds advantages in prompt order), `_save_checkpoint` (its own writes in place) and
`_generate_single_turn` (called, not changed: validation samples exactly as training does). The `local` extra pins TRL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from ltrl.outage import refuse_outage
from ltrl.samples import Sample
from ltrl_backends.local_engine.collapse import refuse_collapse
from ltrl_backends.local_engine.metrics import response_metrics
from ltrl_backends.local_engine.prompts import chat

if TYPE_CHECKING:
    from ltrl_backends.local_engine.scorer import Scored, Scorer
    from ltrl_backends.local_engine.settings import Settings

__all__ = ["Events", "GroupTrainer"]

Values = dict[str, float]

NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "lr": "learning_rate",
    "approx_entropy": "entropy",
    "kl_penalty": "kl",
}
"""What NeMo-RL calls TRL's metrics."""


class Events:
    """What happens around the steps; the driver says what."""

    def __init__(
        self,
        *,
        on_step: Callable[[int, Values], None],
        on_validation: Callable[[int], None],
        on_save: Callable[[int, Mapping[str, Any], Callable[[Path], None]], None],
    ) -> None:
        self.on_step = on_step
        self.on_validation = on_validation
        self.on_save = on_save


class GroupTrainer(GRPOTrainer):  # type: ignore[misc]  # trl ships no types
    """GRPO on prompts given in their final order."""

    def __init__(
        self,
        settings: Settings,
        *,
        model: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Sample],
        scorer: Scorer,
        events: Events,
        directory: Path,
    ) -> None:
        self.prompts = prompts
        self.scorer = scorer
        self.events = events
        self.settings = settings
        self.scored: list[Scored] = []
        """Responses of the step, groups in prompt order."""
        self.advantages: list[float] = []
        """Theirs."""
        self._step_values: Values = {}
        rows = {"prompt": [chat(sample) for sample in prompts], "number": list(range(len(prompts)))}
        super().__init__(
            model=model,
            processing_class=tokenizer,
            reward_funcs=self._rewards,
            args=_arguments(settings, directory),
            train_dataset=Dataset.from_dict(rows),
            callbacks=[_Callback(self)],
        )
        self.remove_callback(PrinterCallback)

    def sample(self, prompts: Sequence[Sample], *, seed: int) -> list[list[int]]:
        """One completion (token ids) for each prompt, sampled as in training; leaves no trace in the random states."""
        tokenizer = self.processing_class
        ids = [tokenizer.apply_chat_template(chat(p), add_generation_prompt=True, return_dict=False) for p in prompts]
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                completions, _ = self._generate_single_turn(ids, None, {}, 1)
        finally:
            self.model.train(was_training)
        return [list(completion) for completion in completions]

    def _rewards(self, completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float | None]:
        started = time.perf_counter()
        samples = [self.prompts[n] for n in number]
        self.scored = self.scorer.score(samples, completion_ids, group_size=self.num_generations)
        refuse_outage([s.score for s in self.scored], self.settings.reward.outage)
        self._step_values = {"timing/train/reward_calculation": time.perf_counter() - started}
        return [s.reward for s in self.scored]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        started = time.perf_counter()
        output = super()._generate_and_score_completions(inputs)
        self._mask_unjudged(output)
        spent = time.perf_counter() - started
        self.advantages = output["advantages"].tolist()
        prompt_lengths = output["prompt_mask"].sum(1).float()
        num_response_tokens = int(output["completion_mask"].sum())
        said = response_metrics(self.scored, group_size=self.num_generations)
        self._step_values |= {
            **{f"train/{name}": value for name, value in said.items()},
            "train/mean_prompt_length": prompt_lengths.mean().item(),
            "train/total_num_tokens": prompt_lengths.sum().item() + num_response_tokens,
            "train/global_valid_seqs": float(sum(s.reward is not None for s in self.scored)),
            "train/global_valid_toks": float(num_response_tokens),
            "train/advantages/mean": sum(self.advantages) / len(self.advantages),
            "train/advantages/max": max(self.advantages),
            "train/advantages/min": min(self.advantages),
            "timing/train/generation": spent - self._step_values["timing/train/reward_calculation"],
        }
        return output

    def _mask_unjudged(self, output: dict[str, Any]) -> None:
        """Takes unjudged responses out of the loss. TRL gives them advantage 0 and leaves them in its denominators."""
        judged = torch.tensor([s.reward is not None for s in self.scored]).to(output["completion_mask"])
        output["completion_mask"] = output["completion_mask"] * judged.unsqueeze(1)
        output["num_items_in_batch"] = output["completion_mask"].sum()

    def _save_checkpoint(self, _model: Any, _trial: Any) -> None:
        def fill(policy: Path) -> None:
            weights = policy / "weights"
            self.save_model(str(weights), _internal_call=True)
            self.processing_class.save_pretrained(str(policy / "tokenizer"))
            if self.settings.checkpoint.save_optimizer:
                self._save_optimizer_and_scheduler(str(weights))
            self._save_rng_state(str(weights))
            self.state.save_to_json(str(weights / "trainer_state.json"))

        num_tokens = sum(int(entry["valid_tokens"]) for entry in self.state.log_history if "valid_tokens" in entry)
        self.events.on_save(self.state.global_step, {"total_valid_tokens": num_tokens}, fill)

    def step_values(self, logs: Mapping[str, Any]) -> Values:
        """The step's metrics under NeMo-RL's names."""
        values = {f"train/{ours}": float(logs[name]) for ours, name in NAMES.items() if logs.get(name) is not None}
        values["train/wd"] = self.settings.optimizer.weight_decay
        values |= self._step_values
        seconds = float(logs["step_time"])
        spent = values["timing/train/generation"] + values["timing/train/reward_calculation"]
        return values | {"timing/train/total_step_time": seconds, "timing/train/policy_training": seconds - spent}


class _Callback(TrainerCallback):  # type: ignore[misc]  # transformers types it as Any
    """Passes the trainer's events on; TRL logs a step before it saves it."""

    def __init__(self, trainer: GroupTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        state.compute_steps(args, state.max_steps)  # a checkpoint's state has those that it was saved with

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        self.trainer.events.on_validation(state.global_step)

    def on_log(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs["logs"]
        if "grad_norm" not in logs:  # the summary at the end
            return
        values = self.trainer.step_values(logs)
        state.log_history[-1]["valid_tokens"] = values["train/global_valid_toks"]
        self.trainer.events.on_step(state.global_step, values)
        refuse_collapse(state.log_history, self.trainer.settings.collapse)


def _arguments(settings: Settings, directory: Path) -> GRPOConfig:
    grpo, optimizer, checkpoint = settings.grpo, settings.optimizer, settings.checkpoint
    loss = {"token": "dapo", "sequence": "grpo"}[grpo.loss_aggregation]
    return GRPOConfig(
        output_dir=str(directory),
        use_cpu=settings.device == "cpu",
        bf16=settings.precision == "bfloat16",
        max_steps=grpo.steps,
        per_device_train_batch_size=grpo.prompts_per_step * grpo.group_size,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        num_generations=grpo.group_size,
        max_completion_length=settings.max_response_tokens,
        shuffle_dataset=False,  # the prompts are in their final order
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=grpo.top_k or 0,
        loss_type="cispo" if grpo.objective == "cispo" else loss,
        importance_sampling_level=grpo.ratio,
        epsilon=grpo.clip_low,
        epsilon_high=grpo.clip_high,
        delta=grpo.clip_dual,
        beta=grpo.kl_coefficient,
        scale_rewards="group" if grpo.divide_by_std else "none",
        mask_truncated_completions=grpo.mask_truncated,
        learning_rate=optimizer.lr,
        weight_decay=optimizer.weight_decay,
        adam_beta1=optimizer.beta1,
        adam_beta2=optimizer.beta2,
        adam_epsilon=optimizer.eps,
        max_grad_norm=optimizer.max_grad_norm,
        **_schedule(settings),
        seed=grpo.seed,
        data_seed=grpo.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=checkpoint.every_steps,
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=False,
    )


def _schedule(settings: Settings) -> dict[str, Any]:
    optimizer = settings.optimizer
    name = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}[optimizer.schedule]
    if optimizer.schedule == "cosine" and optimizer.min_lr:
        return {
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr": optimizer.min_lr},
            "warmup_steps": optimizer.warmup_steps,
        }
    return {"lr_scheduler_type": name, "warmup_steps": optimizer.warmup_steps}
