"""What a check is: one condition of NeMo-RL, Megatron-Core or vLLM on a configuration, found before a job is queued."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ltrl.errors import Code, Diagnostic, Position
from ltrl_backends.nemo_rl.config import OVERRIDES, Setting, Sizes, flat_overrides, nested, settings
from ltrl_backends.nemo_rl.database import Database, database
from ltrl_backends.nemo_rl.options import NemoRLOptions

if TYPE_CHECKING:
    from ltrl.resolve import Resolved

__all__ = ["RULES", "Check", "Conf", "Given", "Problem", "Undecided", "nearest", "rule"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One place where a condition does not hold."""

    position: Position
    message: str
    hint: str
    """The nearest change that passes."""


@dataclass(frozen=True, slots=True)
class Check:
    """One condition with the function that finds where it does not hold."""

    id: str
    """Stable: `P4`. Shown as `nemo-rl:P4`."""
    condition: str
    """What must hold, in NeMo-RL's words."""
    source: str
    """Where NeMo-RL would stop, or what would go wrong; lines are those of version 0.7.0."""
    find: Callable[[Conf], Iterable[Problem]]
    code: Code = Code.ENGINE_LIMIT
    severity: Severity = "error"

    def __call__(self, conf: Conf) -> Iterator[Diagnostic]:
        """The diagnostics of this check; none when it needs a layout that is not chosen yet."""
        try:
            for problem in self.find(conf):
                hint = f"{problem.hint} (nemo-rl:{self.id}, {self.source})"
                yield Diagnostic(self.code, problem.message, problem.position, hint, self.severity)
        except Undecided:
            return


RULES: list[Check] = []
"""All checks in the order in which they were written down; `checks.CHECKS` is what others use."""


def rule(
    id: str,
    condition: str,
    source: str,
    *,
    code: Code = Code.ENGINE_LIMIT,
    severity: Severity = "error",
) -> Callable[[Callable[[Conf], Iterable[Problem]]], Callable[[Conf], Iterable[Problem]]]:
    """Makes a function a check."""

    def register(find: Callable[[Conf], Iterable[Problem]]) -> Callable[[Conf], Iterable[Problem]]:
        assert id not in {check.id for check in RULES}
        RULES.append(Check(id, condition, source, find, code, severity))
        return find

    return register


class Undecided(Exception):
    """A value depends on the layout, and the spec leaves that to the planner."""


@dataclass(frozen=True, slots=True)
class Given:
    """Parallel sizes as the spec states them."""

    tp: int
    pp: int
    cp: int
    ep: int
    etp: int


class Conf:
    """The configuration to be checked, with the way back to what the user wrote."""

    def __init__(self, resolved: Resolved, sizes: Sizes | None = None) -> None:
        options = resolved.engine
        assert isinstance(options, NemoRLOptions)
        written = resolved.spec.parallelism
        if sizes is None and written is not None:
            sizes = Given(written.tensor, written.pipeline, written.context, written.expert, written.expert_tensor)
        self.resolved, self.options, self.sizes = resolved, options, sizes
        self.spec, self.card, self.cluster = resolved.spec, resolved.card, resolved.cluster
        self.keys: Database = database(options.version)
        self.settings: list[Setting] = settings(resolved, sizes)
        self._by_key = {setting.key: setting for setting in self.settings}
        self._tree = nested(self.settings)
        self._overrides = {key: path for key, _, path in flat_overrides(options, self.keys)}

    def __getitem__(self, key: str) -> Any:
        """The value of a key, None when it is absent; raises Undecided for one that the layout decides."""
        place: Any = self._tree
        for step in key.split("."):
            if not isinstance(place, dict) or step not in place:
                if self.sizes is None and key in _OF_LAYOUT:
                    raise Undecided
                return None
            place = place[step]
        return place

    def word(self, key: str) -> str:
        """What the user calls a key: the field of the spec, or the key itself."""
        setting = self._setting(key)
        written = key in self._overrides or setting is None or setting.field in ("", OVERRIDES)
        return f"`{key}`" if written or setting is None else f"`{setting.field}`"

    def said(self, key: str) -> str:
        """The key in the user's word with its value: `parallelism.tensor` 4."""
        return f"{self.word(key)} {shown(self[key])}"

    def at(self, key: str) -> Position:
        """Where a key's value was written, or the nearest thing around it."""
        steps = key.split(".")
        for end in range(len(steps), 0, -1):
            if path := self._overrides.get(".".join(steps[:end])):
                return self.resolved.document.at((*path, *steps[end:]), key=end == len(steps))
        setting = self._setting(key)
        return self.field(setting.field if setting and setting.field else "engine")

    def field(self, path: str) -> Position:
        """Where a field of the spec or of the cluster profile was written."""
        return self.resolved.at(path)

    def is_override(self, key: str) -> bool:
        """Whether `engine.overrides` gives the key."""
        return key in self._overrides

    def overrides(self) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        """(key, value, path in the spec) of every override."""
        return flat_overrides(self.options, self.keys)

    def _setting(self, key: str) -> Setting | None:
        while key not in self._by_key and "." in key:
            key = key.rpartition(".")[0]
        return self._by_key.get(key)

    @property
    def tp(self) -> int:
        """Tensor parallel size of training."""
        return int(self[TP])

    @property
    def pp(self) -> int:
        """Pipeline parallel size of training."""
        return int(self[PP])

    @property
    def cp(self) -> int:
        """Context parallel size of training."""
        return int(self[CP])

    @property
    def ep(self) -> int:
        """Expert parallel size of training."""
        return int(self[EP])

    @property
    def etp(self) -> int:
        """Expert tensor parallel size of training."""
        return int(self[ETP])

    @property
    def train_gpus(self) -> int:
        """GPUs that train."""
        return (self.cluster.nodes - (self.spec.rollout.nodes or 0)) * self.cluster.gpus_per_node

    @property
    def rollout_gpus(self) -> int:
        """GPUs that generate: those of their own nodes, or all."""
        return (self.spec.rollout.nodes or self.cluster.nodes) * self.cluster.gpus_per_node

    @property
    def dp(self) -> int:
        """Data parallel size; raises Undecided when the layout does not divide the GPUs, which is another mistake."""
        model = self.tp * self.pp * self.cp
        if not self.train_gpus or self.train_gpus % model:
            raise Undecided
        return self.train_gpus // model

    @property
    def samples(self) -> int:
        """Responses of a step."""
        return self.spec.algorithm.prompts_per_step * self.spec.algorithm.group_size

    @property
    def total(self) -> int:
        """Longest sequence in tokens."""
        return int(self["policy.max_total_sequence_length"])

    @property
    def gpus_of_training(self) -> str:
        """`32 GPUs (4 nodes x 8)`."""
        nodes = self.cluster.nodes - (self.spec.rollout.nodes or 0)
        return f"{self.train_gpus} GPUs ({nodes} nodes x {self.cluster.gpus_per_node})"


MEGATRON = "policy.megatron_cfg"
TP = f"{MEGATRON}.tensor_model_parallel_size"
PP = f"{MEGATRON}.pipeline_model_parallel_size"
CP = f"{MEGATRON}.context_parallel_size"
EP = f"{MEGATRON}.expert_model_parallel_size"
ETP = f"{MEGATRON}.expert_tensor_parallel_size"
_OF_LAYOUT = {
    TP,
    PP,
    CP,
    EP,
    ETP,
    f"{MEGATRON}.sequence_parallel",
    "policy.make_sequence_length_divisible_by",
    "policy.sequence_packing.train_mb_tokens",
    "policy.sequence_packing.logprob_mb_tokens",
}


def nearest(current: int, candidates: Iterable[int]) -> int | None:
    """The candidate closest to a number by ratio, the smaller of two that are equally close."""
    chosen = sorted(set(candidates), key=lambda n: (max(n, current) / max(1, min(n, current)), n))
    return chosen[0] if chosen else None


def shown(value: Any) -> str:
    """A value as YAML has it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)
