"""What ltrl changes inside NeMo-RL's driver process: names of its modules are bound anew, its source stays untouched.

- `scale_rewards`, called once a step with the whole batch: groups of scores become rewards; in
  asynchronous training, which does not call it, `_build_async_grpo_train_data` does the same.
- `_create_advantage_estimator` (hook B): groups with unjudged responses get the advantages of those judged.
- `validate` and the rollout functions: accuracy of each validation set, unjudged responses left out.
- the logger: every number also goes to `metrics.jsonl`, one line a step, and responses for people to `excerpts.jsonl`.

Imported in the job only.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ltrl.backend import Outage
from ltrl.excerpts import PER_SET, Excerpt, append, choose
from ltrl.outage import refuse_outage
from ltrl.scoring import Score, Verdict, advantages, group_kind
from ltrl_backends.nemo_rl.config import validation_name
from ltrl_backends.nemo_rl.scorer import UNJUDGED

if TYPE_CHECKING:
    from ltrl.backend import RewardBackend

__all__ = ["Groups", "MetricsLog", "install", "keep_special_tokens"]

_VALIDATION = validation_name("")
_NEVER_GENERATED = Score(None, 0.0, Verdict(None, "its generation failed"))
"""NeMo-RL swallows a failed generation and fills in 0, which would count as a wrong answer."""


def keep_special_tokens(tokenizer: Any) -> Any:
    """Makes the tokenizer decode responses with their special tokens, as `ltrl.scoring` parses them.

    NeMo-RL's rollouts decode without; stop token and chat markers would be lost. Ids are not affected.
    """
    decode = tokenizer.batch_decode

    def batch_decode(sequences: Any, *, skip_special_tokens: bool = False, **options: Any) -> Any:  # noqa: ARG001
        return decode(sequences, skip_special_tokens=False, **options)

    tokenizer.batch_decode = batch_decode
    return tokenizer


class Groups:
    """Turns the scores of a batch into rewards, prompt by prompt, and keeps what the step's metrics say."""

    def __init__(
        self,
        reward: RewardBackend,
        *,
        group_size: int,
        divide_by_std: bool,
        leave_one_out: bool,
        outage: Outage = Outage(),  # noqa: B008  # frozen
    ) -> None:
        self._reward = reward
        self._outage = outage
        self._size = group_size
        self._divide_by_std = divide_by_std
        self._leave_one_out = leave_one_out
        self._rewards: list[float | None] = []
        self.metrics: dict[str, float] = {}
        self.excerpts: list[Excerpt] = []
        """A few responses of the batch."""
        self.validated: list[Excerpt] = []
        """Responses of the validation that goes on, or was the last."""

    def transform(self, batch: Any) -> Any:
        """Replaces `total_reward` in place by the groups' rewards and masks unjudged responses from the loss.

        An unjudged response gets the mean reward of its group, so that no baseline moves. A batch is changed once.
        Raises LtrlError when more are unjudged than `reward.outage` allows.
        """
        if batch.get("ltrl_rewards") is not None:
            return batch
        infos, seen = batch["extra_env_info"], [_was_scored(log) for log in batch["message_log"]]
        if not any(seen):
            raise RuntimeError("no response of this step was generated; the messages above say why")
        outcomes, rubrics = batch["reward1"].tolist(), batch["reward2"].tolist()
        rows = zip(outcomes, rubrics, infos, seen, strict=True)
        scores = [_score(*row[:3]) if row[3] else _NEVER_GENERATED for row in rows]
        refuse_outage(scores, self._outage)
        rewards: list[float | None] = []
        for start in range(0, len(scores), self._size):
            uids = {str(info["uid"]) for info in infos[start : start + self._size]}
            assert len(uids) == 1, f"responses {start} to {start + self._size - 1} answer different prompts: {uids}"
            rewards += self._reward.rewards(scores[start : start + self._size])
        total, weight = batch["total_reward"], batch["loss_multiplier"]
        for start in range(0, len(rewards), self._size):
            group = rewards[start : start + self._size]
            known = [r for r in group if r is not None]
            for index, reward in enumerate(group, start):
                total[index] = reward if reward is not None else fmean(known) if known else 0.0
                if reward is None:
                    weight[index] = 0.0
        batch["ltrl_rewards"] = torch.tensor([math.nan if r is None else r for r in rewards])
        self.metrics = self._measure(scores, rewards, batch)
        self.excerpts = [
            _excerpt(infos[i], batch["message_log"][i], scores[i], rewards[i])
            for i in choose(rewards, group_size=self._size)
        ]
        return batch

    def advantages(self, batch: Any, computed: torch.Tensor) -> torch.Tensor:
        """The estimator's advantages [B, T]; groups with unjudged responses get those of the judged ones."""
        known = batch.get("ltrl_rewards")
        if known is None or not torch.isnan(known).any():
            return computed
        corrected = computed.clone()
        for start in range(0, len(known), self._size):
            group = [None if math.isnan(r) else r for r in known[start : start + self._size].tolist()]
            if None in group:
                values = advantages(group, divide_by_std=self._divide_by_std, leave_one_out=self._leave_one_out)
                for index, value in enumerate(values, start):
                    corrected[index] = 0.0 if value is None else value
        return corrected

    def keep_validated(self, batch: Any, told: Sequence[tuple[str, float]]) -> None:
        """Keeps validation responses, with set and outcome of each."""
        infos = batch.get("extra_env_info") or [{}] * len(told)
        rows = zip(told, infos, batch["message_log"], strict=True)
        kept = Counter(one.set for one in self.validated)
        for (name, outcome), info, log in rows:
            if kept[name] == PER_SET:
                continue
            kept[name] += 1
            details = info.get("score") or {}
            score = _score(outcome, float(details.get("rubric", 0.0)), info)
            self.validated.append(replace(_excerpt(info, log, score, score.outcome), split="validation", set=name))

    def _measure(self, scores: Sequence[Score], rewards: Sequence[float | None], batch: Any) -> dict[str, float]:
        kinds = [group_kind(rewards[i : i + self._size]) for i in range(0, len(rewards), self._size)]
        judged = [s.outcome for s in scores if s.outcome is not None]
        values = {
            "rubric": fmean(s.rubric for s in scores),
            "group/all_one": kinds.count("all-one") / len(kinds),
            "group/all_zero": kinds.count("all-zero") / len(kinds),
            "group/mixed": kinds.count("mixed") / len(kinds),
            "ill_formed_rate": fmean(s.zeroed == "ill-formed" for s in scores),
            "unjudged_rate": fmean(s.outcome is None for s in scores),
        }
        if judged:
            values["outcome"] = fmean(judged)
        if "truncated" in batch:
            values["truncation_rate"] = float(torch.as_tensor(batch["truncated"]).float().mean())
        return values | _by_source([str(info.get("source", "")) for info in batch["extra_env_info"]], scores, rewards)


def _by_source(sources: Sequence[str], scores: Sequence[Score], rewards: Sequence[float | None]) -> dict[str, float]:
    """Figures of each source of samples; none where there is but one."""
    values = {}
    for source in sorted(set(sources)) if len(set(sources)) > 1 else ():
        rows = [(s, r) for s, r, own in zip(scores, rewards, sources, strict=True) if own == source]
        values[f"source/{source}/rubric"] = fmean(s.rubric for s, _ in rows)
        if paid := [reward for _, reward in rows if reward is not None]:
            values[f"source/{source}/reward"] = fmean(paid)
        if judged := [s.outcome for s, _ in rows if s.outcome is not None]:
            values[f"source/{source}/outcome"] = fmean(judged)
    return values


def _excerpt(info: Mapping[str, Any], log: Sequence[Mapping[str, Any]], score: Score, reward: float | None) -> Excerpt:
    """A training response for people."""
    answers = [message for message in log if message["role"] == "assistant"]
    tokens = answers[-1].get("token_ids") if answers else None
    return Excerpt(
        split="train",
        sample=str(info.get("uid", "")),
        question=str(info.get("question", "")),
        label=str(info.get("label", "")),
        rubrics=tuple(info.get("rubrics", ())),
        aliases=info.get("aliases", {}),
        response=str(answers[-1].get("content", "")) if answers else "",
        reward=reward,
        outcome=score.outcome,
        rubric=score.rubric,
        zeroed=score.zeroed,
        parts=score.parts,
        judge=str((info.get("score") or {}).get("said") or score.said),
        num_tokens=None if tokens is None else len(tokens),
    )


def _was_scored(log: Sequence[Mapping[str, Any]]) -> bool:
    """Whether our environment has answered, which it does to every response that was generated."""
    return bool(log) and log[-1]["role"] == "environment"


def _score(outcome: float, rubric: float, info: Mapping[str, Any]) -> Score:
    """The score that the environment gave, from its columns; the rest of it where NeMo-RL kept the metadata."""
    details = info.get("score") or {}
    reason = details.get("unjudged")
    return Score(
        outcome=None if outcome == UNJUDGED else outcome,
        rubric=rubric,
        verdict=None if reason is None else Verdict(None, str(reason)),
        zeroed=str(details.get("zeroed", "")),
        parts=dict(details.get("parts", {})),
    )


def install(grpo: ModuleType, groups: Groups) -> None:
    """Binds the hooks into `nemo_rl.algorithms.grpo`."""
    scale, build, estimate, validate = (
        grpo.scale_rewards,
        getattr(grpo, "_build_async_grpo_train_data", None),
        grpo._create_advantage_estimator,
        grpo.validate,
    )
    measured: list[tuple[str, float]] | None = None

    def scale_rewards(batch: Any, *arguments: Any, **options: Any) -> Any:
        return scale(groups.transform(batch), *arguments, **options)

    def build_async(flat: Any, lengths: Any, batch: Any, *arguments: Any, **options: Any) -> Any:
        assert build is not None
        return build(flat, lengths, groups.transform(batch), *arguments, **options)

    def create_estimator(*arguments: Any, **options: Any) -> Any:
        return _Estimator(estimate(*arguments, **options), groups)

    def validate_each_set(*arguments: Any, **options: Any) -> Any:
        nonlocal measured
        measured, groups.validated = [], []
        try:
            metrics, timings = validate(*arguments, **options)
            return {**metrics, **_accuracies(measured)}, timings
        finally:
            measured = None

    def watching(rollout: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            batch, metrics = rollout(*arguments, **options)
            if measured is not None:
                names = (str(name).removeprefix(_VALIDATION) for name in batch["task_name"])
                scored = map(_was_scored, batch["message_log"])
                rows = zip(names, batch["total_reward"].tolist(), scored, strict=True)
                told = [(name, outcome if seen else UNJUDGED) for name, outcome, seen in rows]
                measured.extend(told)
                groups.keep_validated(batch, told)
            return batch, metrics

        return run

    bound: dict[str, Any] = {
        "scale_rewards": scale_rewards,
        "_create_advantage_estimator": create_estimator,
        "validate": validate_each_set,
        "run_multi_turn_rollout": watching(grpo.run_multi_turn_rollout),
        "run_async_multi_turn_rollout": watching(grpo.run_async_multi_turn_rollout),
    }
    if build is not None:
        bound["_build_async_grpo_train_data"] = build_async
    for name, function in bound.items():
        setattr(grpo, name, function)


class _Estimator:
    """NeMo-RL's advantage estimator, with groups that have unjudged responses done over."""

    def __init__(self, inner: Any, groups: Groups) -> None:
        self._inner = inner
        self._groups = groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def compute_advantage(self, *, rewards: torch.Tensor, repeated_batch: Any = None, **options: Any) -> torch.Tensor:
        """Advantages of shape [B, T]."""
        if repeated_batch is not None and "reward1" in repeated_batch:
            rewards = self._groups.transform(repeated_batch)["total_reward"]
        computed = self._inner.compute_advantage(rewards=rewards, repeated_batch=repeated_batch, **options)
        return computed if repeated_batch is None else self._groups.advantages(repeated_batch, computed)


def _accuracies(measured: Sequence[tuple[str, float]]) -> dict[str, float]:
    """`<set>/accuracy` of each set and `accuracy` of all; what no judge answered is left out and counted."""
    judged: dict[str, list[float]] = defaultdict(list)
    for name, outcome in measured:
        if outcome != UNJUDGED:
            judged[name].append(outcome)
    found = {f"{name}/accuracy": fmean(outcomes) for name, outcomes in judged.items()}
    everything = [outcome for outcomes in judged.values() for outcome in outcomes]
    if measured:
        # Not a number where nothing was judged: NeMo-RL's own 0 would say that every answer was wrong.
        found["accuracy"] = fmean(everything) if everything else math.nan
        found["unjudged_rate"] = 1 - len(everything) / len(measured)
    return found


class MetricsLog:
    """NeMo-RL's logger, whose numbers also go to `metrics.jsonl`: one line a step, one a validation."""

    def __init__(self, inner: Any, directory: Path, groups: Groups) -> None:
        self._inner = inner
        self._groups = groups
        self._path = directory / "metrics.jsonl"
        self._line: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def log_metrics(
        self, metrics: dict[str, Any], step: int, prefix: str | None = "", *arguments: Any, **options: Any
    ) -> None:
        """Passes the numbers on; the last of a step (`step_finished`) and each validation end a line."""
        if prefix == "train" and "loss" in metrics:
            metrics = {**metrics, **self._groups.metrics}
        self._inner.log_metrics(metrics, step, prefix, *arguments, **options)
        numbers = {f"{prefix}/{name}": value for name, value in _flat(metrics)}
        if prefix == "validation":
            self._write(step, numbers)
            append(self._path.parent, step, self._groups.validated)
            self._groups.validated = []
        elif prefix in ("train", "timing/train", "performance"):
            self._line.update(numbers)
            if options.get("step_finished"):
                self._write(step, self._line)
                append(self._path.parent, step, self._groups.excerpts)
                self._line, self._groups.excerpts = {}, []

    def _write(self, step: int, numbers: Mapping[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Every finite number, with the names of nested ones joined by `/`."""
    found: list[tuple[str, float]] = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}/")
            continue
        number = value.item() if getattr(value, "shape", None) == () else value
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if is_number and math.isfinite(number):
            found.append((f"{prefix}{name}", float(number)))
    return found
