"""The training process: from a bundle's configuration to checkpoints and metrics in the current directory."""

from __future__ import annotations

import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ltrl.backend import DataSection, create
from ltrl.data.overlong import fit
from ltrl.errors import Code, LtrlError, fail
from ltrl.excerpts import PER_SET, choose
from ltrl.samples import Sample
from ltrl.served import connect, hosted
from ltrl_backends.local_engine.checkpoints import Checkpoint, Checkpoints
from ltrl_backends.local_engine.engine import missing
from ltrl_backends.local_engine.metrics import Metrics, excerpt, validation_metrics
from ltrl_backends.local_engine.progress import Reporter, reporter
from ltrl_backends.local_engine.prompts import measure, prompt_order
from ltrl_backends.local_engine.scorer import Scored, Scorer
from ltrl_backends.local_engine.settings import Settings, read_settings
from ltrl_backends.local_engine.storage import locked, writing
from ltrl_backends.local_engine.trackers import trackers
from ltrl_backends.local_engine.warm_start import start_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ltrl_backends.local_engine.trainer import GroupTrainer

__all__ = ["main", "train"]


def main(arguments: Sequence[str]) -> int:
    """Trains as the configuration file says; returns the job's exit status: 0 done, 1 mend the input, 3 collapsed."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m ltrl_backends.local_engine CONFIG.json\n")
        return 2
    try:
        train(read_settings(Path(arguments[0])), Path.cwd())
    except LtrlError as error:
        for diagnostic in error.diagnostics:
            sys.stderr.write(f"error[{diagnostic.code}]: {diagnostic.message}\n")
            if diagnostic.hint:
                sys.stderr.write(f"hint: {diagnostic.hint}\n")
        return 3 if all(d.code == Code.TRAINING_COLLAPSED for d in error.diagnostics) else 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; submitting again resumes at the last checkpoint\n")
        return 130
    except Exception:  # a bug of ours, told apart from what a user can mend by the exit status
        traceback.print_exc()
        return 70
    return 0


def train(settings: Settings, directory: Path) -> None:
    """Trains to the last step, from the newest checkpoint in the run directory if there is one."""
    _require_libraries()
    with locked(directory / "driver.lock", when_busy=lambda: _refuse_second(directory)):
        _train(settings, directory)


def _train(settings: Settings, directory: Path) -> None:
    checkpoints = Checkpoints(directory / "checkpoints", settings.checkpoint)
    with reporter(settings.grpo.steps) as report:
        for damaged in checkpoints.tidy():
            report.say(f"set aside: `{damaged.directory.name}`, {'; '.join(damaged.problems)}")
        newest = checkpoints.latest()
        if newest:
            _require_same_run(newest, settings)
            if newest.step >= settings.grpo.steps:
                report.say(f"nothing to do: step {newest.step} of {settings.grpo.steps} is done")
                return
            report.say(f"resuming at step {newest.step}")
        _prepare_libraries(settings)
        with (
            hosted(settings.reward, name=directory.name, directory=directory / "logs") as reward,
            Metrics(directory / "logs") as metrics,
        ):
            for tracker in trackers(settings, directory, metrics.directory, say=report.say):
                metrics.trackers.append(tracker)
            _Run(settings.model_copy(update={"reward": reward}), checkpoints, metrics, report, newest).train()


class _Run:
    """One start of the driver."""

    def __init__(
        self,
        settings: Settings,
        checkpoints: Checkpoints,
        metrics: Metrics,
        report: Reporter,
        resumed: Checkpoint | None,
    ) -> None:
        from ltrl_backends.local_engine.trainer import Events, GroupTrainer

        self.settings, self.checkpoints, self.metrics, self.report = settings, checkpoints, metrics, report
        self.resumed = resumed
        self.measured: dict[str, float] = {}
        """Newest validation figures, and the step they belong to."""
        self.measured_at = -1
        data = create(settings.train)
        start = _start(settings, data, resumed, report.say)
        tokenizer, model = _load(start, settings)
        longest = min(settings.max_prompt_tokens, settings.max_total_tokens - settings.max_response_tokens)

        def prepared(section: DataSection, samples: Iterable[Sample], name: str) -> list[Sample]:
            count = partial(measure, tokenizer=tokenizer)
            fitted = fit(samples, count, longest=longest, policy=section.overlong, name=name)
            if fitted.has_changed:
                report.say(f"{name}: {fitted}, longer than {longest} tokens")
            return list(fitted.samples)

        train = prepared(settings.train, data, "data.train")
        self.validation_sets = {
            name: prepared(section, create(section), f"data.validation.{name}")
            for name, section in settings.validation_sets.items()
        }
        grpo = settings.grpo
        order = prompt_order(
            len(train),
            prompts_per_step=grpo.prompts_per_step,
            num_steps=grpo.steps,
            seed=grpo.seed,
            shuffle=settings.shuffle,
        )
        self.steps_per_epoch = len(train) // grpo.prompts_per_step
        ends = model.generation_config.eos_token_id
        end_tokens = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends] if ends is not None else [])}
        reward = connect(settings.reward)
        self.scorer = Scorer(
            reward,
            tokenizer,
            end_tokens=end_tokens,
            chat_format=settings.chat_format,
            outage=settings.reward.outage,
        )
        with writing(checkpoints.directory):
            checkpoints.directory.mkdir(parents=True, exist_ok=True)
        self.trainer: GroupTrainer = GroupTrainer(
            settings,
            model=model,
            tokenizer=tokenizer,
            prompts=[train[i] for i in order],
            scorer=self.scorer,
            events=Events(on_step=self._on_step, on_validation=self._on_validation, on_save=self._on_save),
            directory=checkpoints.directory,
        )

    def train(self) -> None:
        """Runs the steps that are left."""
        if self.resumed is None and self.settings.validation.at_start:
            self._validate(0)
        self.trainer.train(resume_from_checkpoint=str(self.resumed.weights) if self.resumed else None)

    def _on_step(self, step: int, values: Mapping[str, float]) -> None:
        self.metrics.write(step, values)
        if self.settings.write_rollouts:
            rows = zip(self.trainer.scored, self.trainer.advantages, strict=True)
            self.metrics.write_responses(f"train_data_step{step}", (_row(s) | {"advantages": a} for s, a in rows))
        scored = self.trainer.scored
        kept = choose([s.reward for s in scored], group_size=self.settings.grpo.group_size)
        self.metrics.write_excerpts(step, (excerpt(scored[i], split="train") for i in kept))
        self.report.step(step, values)

    def _on_validation(self, step: int) -> None:
        validation = self.settings.validation
        is_due = validation.every_steps and step % validation.every_steps == 0
        if is_due or (validation.at_end and step == self.settings.grpo.steps):
            self._validate(step)

    def _validate(self, step: int) -> None:
        """Measures every validation set, without touching the training's random states."""
        if not self.validation_sets:
            return
        num = self.settings.validation.samples_per_prompt
        batch = self.settings.grpo.prompts_per_step * self.settings.grpo.group_size
        measured: dict[str, list[Scored]] = {}
        for name, samples in self.validation_sets.items():
            asked = [sample for sample in samples for _ in range(num)]
            completions: list[list[int]] = []
            for start in range(0, len(asked), batch):
                # the same numbers at every step: two measurements differ by the policy, not by luck
                completions += self.trainer.sample(asked[start : start + batch], seed=self.settings.grpo.seed + start)
            measured[name] = self.scorer.score(asked, completions, group_size=num)
        values = validation_metrics(measured)
        self.metrics.write(step, values)
        rows = [_row(s) | {"set": name} for name, scored in measured.items() for s in scored]
        self.metrics.write_responses(f"val_data_step{step}", rows)
        kept = [(name, s) for name, scored in measured.items() for s in scored[:PER_SET]]
        self.metrics.write_excerpts(step, (excerpt(s, split="validation", name=name) for name, s in kept))
        self.measured, self.measured_at = values, step
        figures = f"accuracy {values['validation/accuracy']:.2f}  rubric {values['validation/rubric']:.2f}"
        self.report.say(f"validation at step {step}: {figures}")
        for row in rows[: self.settings.validation.samples_to_print]:
            self.report.say(f"  {row['content'][-1]['content']!r} (expected {row['label']!r})")

    def _on_save(self, step: int, info: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
        prompts = self.settings.grpo.prompts_per_step
        training_info = {
            "consumed_samples": step * prompts,
            "current_step": step % self.steps_per_epoch,
            "current_epoch": step // self.steps_per_epoch,
            "total_steps": step,
            "fingerprint": self.settings.fingerprint,
            "attempt": int(os.environ.get("LTRL_ATTEMPT", "1")),
            **info,
        }
        if self.measured_at == step:
            finite = {name: value for name, value in self.measured.items() if math.isfinite(value)}
            training_info |= {f"val:{name.removeprefix('validation/')}": value for name, value in finite.items()}
            training_info["val_reward"] = finite.get("validation/accuracy")
        config = yaml.safe_dump(self.settings.model_dump(mode="json"), sort_keys=False)
        self.checkpoints.save(step, training_info, config, fill)


def _start(settings: Settings, data: Any, resumed: Checkpoint | None, say: Callable[[str], None]) -> str | Path:
    """The model to load before a checkpoint's own state: the start model while a penalty compares with it."""
    if resumed and not settings.grpo.kl_coefficient:
        return resumed.weights
    if settings.network is None:
        local = Path(os.environ.get("LTRL_PROJECT_DIR", ""), settings.base)  # relative paths start at the project
        return local if local.is_dir() else settings.base
    assert hasattr(data, "answer_demonstrations")  # `LocalEngine.check` demands it
    return start_model(data, settings.warm_start, settings.network, threads=settings.threads, report=say)


def _load(start: str | Path, settings: Settings) -> tuple[PreTrainedTokenizerBase, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    revision = (settings.revision or "main") if start == settings.base else "main"
    try:
        tokenizer = AutoTokenizer.from_pretrained(start, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(start, revision=revision, dtype="float32", **settings.overrides)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise fail(Code.UNREADABLE, f"cannot load the model `{start}`: {first}") from error
    return tokenizer, model


def _row(scored: Scored) -> dict[str, Any]:
    """A response as NeMo-RL dumps it, with what it was scored against and its score."""
    sample = scored.sample
    messages = [{"role": role, "content": content} for role, content in sample.messages]
    return {
        "content": [*messages, {"role": "assistant", "content": scored.response.raw}],
        "rewards": scored.reward,
        "sample": sample.id,
        "status": scored.response.status,
        "question": sample.question,
        "label": sample.label,
        "rubrics": list(sample.rubrics),
        "aliases": {entity: list(names) for entity, names in sample.aliases.items()},
        "dataset_name": sample.dataset_name,
        "outcome": scored.score.outcome,
        "rubric": scored.score.rubric,
        "zeroed": scored.score.zeroed,
        "token_ids": list(scored.token_ids),
    }


def _require_same_run(checkpoint: Checkpoint, settings: Settings) -> None:
    found = checkpoint.info().get("fingerprint")
    if found != settings.fingerprint:
        prints = f"its fingerprint is {str(found)[:8]}, this one's {settings.fingerprint[:8]}"
        message = f"`{checkpoint.directory}` belongs to another experiment: {prints}"
        raise fail(Code.RESUME_REFUSED, message, hint="start it in a run directory of its own")


def _refuse_second(directory: Path) -> None:
    raise fail(Code.RUN_BUSY, f"another process is training in `{directory}`", hint="wait for it, or cancel it first")


def _require_libraries() -> None:
    if lacking := missing():
        raise LtrlError(lacking)


def _prepare_libraries(settings: Settings) -> None:
    """Makes the libraries quiet, repeatable and, for a model made here, independent of the network."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if settings.device == "cuda":  # with more than one the trainer would split batches over all of them
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = "0" if visible is None else visible.split(",")[0]
    if settings.network is not None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # before the first import of huggingface_hub, which reads it once
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    import datasets
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(settings.threads)
    if settings.device == "cuda":
        _require_gpu(settings, torch)


def _require_gpu(settings: Settings, torch: Any) -> None:
    if not torch.cuda.is_available():
        seen = os.environ["CUDA_VISIBLE_DEVICES"]
        why = "this PyTorch is built for the CPU" if torch.version.cuda is None else f"CUDA_VISIBLE_DEVICES is `{seen}`"
        hint = "`engine.device: cpu`; or a machine with a GPU, and `gpus_per_node: 1` in the cluster profile"
        raise fail(Code.ENGINE_LIMIT, f"`engine.device: cuda`, but PyTorch sees no GPU here: {why}", hint=hint)
    if settings.precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(0)
        raise fail(Code.ENGINE_LIMIT, f"`engine.precision: bfloat16`, but `{name}` has none", hint="use `float32`")
