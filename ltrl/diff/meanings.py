"""What a change of a field means for rewards and for a run: one table, read from above, the first that fits counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ltrl.backend import Grade
from ltrl.diff.model import Answer, Change, Verdict

__all__ = ["MEANINGS", "Meaning", "consequence", "resume", "rewards"]

Tree = Mapping[str, Any]

MOST = 3
"""Reasons that a verdict names."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a change of some fields means."""

    fields: str
    """Pattern of dotted paths; `*` is any text."""
    rewards: Answer
    """Whether the rewards of runs that differ in it are comparable."""
    words: str
    """With {old} and {new}; of a change of rewards, why they are not comparable."""
    when: Callable[[Tree], bool] | None = None
    """Holds on either side."""


def _pays_for_the_answer_alone(tree: Tree) -> bool:
    return bool(tree["reward"]["backend"] == "outcome")


def _penalty_in_reward(tree: Tree) -> bool:
    return bool(tree["algorithm"]["kl"]["in_reward"])


def _best_of_the_group(tree: Tree) -> bool:
    return bool(tree["reward"].get("normalisation") == "group-max")


def _cut_is_zero(tree: Tree) -> bool:
    return bool(tree["reward"].get("truncated", "zero") == "zero")


MEANINGS = (
    Meaning("reward.backend", "no", "runs are paid for different things"),
    Meaning("reward.eta", "no", "the evidence weighs {new} instead of {old}"),
    Meaning("reward.beta", "no", "chunks that are missing weigh {new} times as much as wrong ones, instead of {old}"),
    Meaning("reward.scope", "no", "the evidence is paid for {new} instead of {old}"),
    Meaning("reward.normalisation", "no", "evidence is measured by {new} instead of {old}"),
    Meaning("reward.matcher", "yes", "changes a metric only: the answer alone is paid for", _pays_for_the_answer_alone),
    Meaning("reward.accents", "yes", "changes a metric only: the answer alone is paid for", _pays_for_the_answer_alone),
    Meaning("reward.text", "yes", "changes a metric only: the answer alone is paid for", _pays_for_the_answer_alone),
    Meaning("reward.matcher", "no", "evidence is found by {new} instead of {old}"),
    Meaning("reward.accents", "no", "evidence is found by other rules for accents"),
    Meaning("reward.text", "no", "evidence is looked for in {new} instead of {old}"),
    Meaning("reward.ill_formed", "no", "ill-formed responses are paid otherwise"),
    Meaning("reward.truncated", "no", "responses cut at the limit are paid otherwise"),
    Meaning("reward.aborted", "no", "aborted responses are paid otherwise"),
    Meaning("reward.judge*.base_url", "yes", "the same judge elsewhere"),
    Meaning("reward.judge*.model", "no", "another judge, {new}, says what is right"),
    Meaning("reward.judge*.backend", "no", "another judge, {new}, says what is right"),
    Meaning("reward.judge*.template", "no", "the judge is asked another question"),
    Meaning("reward.judge*.parse", "no", "the judge's replies are read by other rules"),
    Meaning("reward.judge.judges", "yes", "the same judges in another order"),
    Meaning("reward.judge.judges*", "no", "other judges say what is right"),
    Meaning("reward.judge*.replies", "with care", "the judge gets {new} tries for a verdict instead of {old}"),
    Meaning("reward.judge*.max_tokens", "with care", "the judge may say {new} tokens instead of {old}"),
    Meaning("reward.judge*.temperature", "with care", "the same judge may decide otherwise"),
    Meaning("reward.judge*.top_p", "with care", "the same judge may decide otherwise"),
    Meaning("reward.judge*.seed", "with care", "the same judge may decide otherwise"),
    Meaning("reward.*", "no", "the reward follows another rule"),
    Meaning("data.train.limit", "with care", "another part of the same questions is asked"),
    Meaning("data.train.samples", "with care", "another number of questions of the same kind is asked"),
    Meaning("data.train.*", "no", "other questions are asked"),
    Meaning("data.shuffle", "with care", "the same questions come in another order: compare whole epochs, not steps"),
    Meaning("data.validation.*", "yes", "figures of this validation set are not comparable, training rewards are"),
    Meaning("model.chat_format", "no", "another part of a response counts as its answer"),
    Meaning("model.context.prompt", "with care", "longer questions are left out from {new} tokens on instead of {old}"),
    Meaning(
        "model.context.response", "with care", "responses are cut at {new} tokens instead of {old}, which pays 0",
        _cut_is_zero,
    ),
    Meaning("model.context.*", "with care", "responses are cut at another length"),
    Meaning("model.base", "yes", "another model is trained; its rewards follow the same rule"),
    Meaning("algorithm.kl.*", "no", "the penalty is part of the reward", _penalty_in_reward),
    Meaning("algorithm.kl.coefficient", "yes", "above 0 a copy of the start model is kept in host memory"),
    Meaning("algorithm.dynamic_sampling*", "with care", "the mean is over other prompts: those with a signal"),
    Meaning(
        "algorithm.group_size", "with care", "evidence is measured by the best of {new} responses instead of {old}",
        _best_of_the_group,
    ),
    Meaning("algorithm.prompts_per_step", "yes", "compare the runs by samples, not by steps"),
    Meaning("algorithm.steps", "yes", "a run that was to end after {old} steps is not gone on with"),
    Meaning("algorithm.seed", "yes", "another draw: the difference of the two runs is noise"),
    Meaning("rollout.temperature", "with care", "the same policy gets another mean reward when sampled at {new}"),
    Meaning("rollout.top_*", "with care", "the same policy gets another mean reward when sampled otherwise"),
    Meaning("validation.samples_per_prompt", "yes", "validation figures are means of {new} responses instead of {old}"),
    Meaning("parallelism*", "yes", "how the work is spread; what is learned stays the same up to rounding"),
    Meaning("checkpoint.save_optimizer", "yes", "without the optimizer's state, a resumed run starts Adam anew"),
    Meaning("engine.name", "yes", "another training system; expect figures to differ in detail"),
    Meaning("engine.version", "yes", "another release of the training system; expect figures to differ in detail"),
    Meaning("cluster.container.image", "yes", "other software: figures may differ where the spec does not"),
    Meaning("name", "yes", "submitting starts a run of the new name; a run of the old name is not gone on with"),
    Meaning("cluster.runs_dir", "yes", "runs are kept elsewhere: one in the old place is not gone on with"),
)  # fmt: skip


def consequence(change: Change, old: Tree, new: Tree) -> str:
    """What a change of a field means, in words; empty where its documentation says all."""
    found = _meaning(change, old, new)
    if found is None:
        return ""
    words = _words(found, change)
    match found.rewards:
        case "no":
            return f"rewards of the two runs are not comparable: {words}"
        case "with care":
            return f"rewards of the two runs are comparable with care: {words}"
        case _:
            return words


def resume(changes: Sequence[Change], *, is_same_experiment: bool, other_files: Sequence[str] = ()) -> Verdict:
    """May an existing run of the old side go on with the new one? `other_files` are training files that hold something
    else now.
    """
    if not is_same_experiment:
        learned = tuple(change.path for change in changes if change.grade is Grade.NEW_RUN and not change.follows)
        fields = "1 field changes" if len(learned) == 1 else f"{len(learned)} fields change"
        reason = f"{fields} what is learned" if learned else "its fingerprint is another"
        return Verdict("no", f"{reason}, so that submitting starts a new run", learned)
    if other_files:
        listed = ", ".join(map(_quoted, other_files))
        return Verdict("no", f"the training data hold something else now: {listed}", tuple(other_files))
    if elsewhere := tuple(change.path for change in changes if change.path in ("name", "cluster.runs_dir")):
        words = "nothing changes what is learned, but submitting starts a run in another place instead of going on"
        return Verdict("with care", words, elsewhere)
    return Verdict("yes", "nothing changes what is learned: it goes on from its last checkpoint")


def rewards(changes: Sequence[Change], old: Tree, new: Tree, *, other_files: Sequence[str] = ()) -> Verdict:
    """Are the rewards of a run of the old side and of one of the new side comparable?"""
    found = [(change, meaning) for change in changes if not change.follows and (meaning := _meaning(change, old, new))]
    for answer in ("no", "with care"):
        if reasons := [(change, meaning) for change, meaning in found if meaning.rewards == answer]:
            words = "; ".join(f"{_step(change)}: {_words(meaning, change)}" for change, meaning in reasons[:MOST])
            if len(reasons) > MOST:
                words += f"; and {len(reasons) - MOST} more"
            return Verdict(answer, words, tuple(change.path for change, _ in reasons))
    if other_files:
        listed = ", ".join(map(_quoted, other_files))
        return Verdict("with care", f"other questions may be asked: {listed} changed", tuple(other_files))
    return Verdict("yes", "the same answers to the same questions get the same rewards")


def _meaning(change: Change, old: Tree, new: Tree) -> Meaning | None:
    for meaning in MEANINGS:
        if fnmatchcase(change.path, meaning.fields) and (not meaning.when or meaning.when(old) or meaning.when(new)):
            matters = meaning.rewards == "yes" or change.grade is Grade.NEW_RUN
            return meaning if matters else None
    return None


def _words(meaning: Meaning, change: Change) -> str:
    return meaning.words.format(old=_plain(change.old), new=_plain(change.new))


def _step(change: Change) -> str:
    return f"{_quoted(change.path)} {_plain(change.old)} → {_plain(change.new)}"


def _quoted(text: str) -> str:
    """Somebody's words inside a sentence of ours, which they cannot leave."""
    inner = text.replace("`", "'")
    return f"`{inner}`"


def _plain(value: Any) -> str:
    """A value inside a sentence."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return repr(value)
        case str():
            return _quoted(value if len(value) <= 60 else f"{value[:59]}…")
        case _:
            return f"{len(value)} items"
