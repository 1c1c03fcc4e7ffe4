"""Which model is measured, how it is asked and what of: a spec with nothing left open."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from pathlib import Path

from ltrl import catalog, project, source
from ltrl.errors import Code, Diagnostic, LtrlError, Position, fail
from ltrl.evaluation.measure import Measurement
from ltrl.evaluation.spec import EvalSection, Evaluation, Subject
from ltrl.names import close_to
from ltrl.parse import parse, wrong_kind
from ltrl.scoring import chat_formats, is_chat_format
from ltrl.source import Document, Keys
from ltrl.spec import Experiment

__all__ = ["Written", "measurement", "written"]

_EXTENDING = ("--hf-overrides", "--hf_overrides", "--rope-scaling", "--rope_scaling")
"""Options of `vllm serve` with which a model takes longer texts than its `config.json` says."""


@dataclass(frozen=True)
class Written:
    """An evaluation as it was written: a file of its own, or an experiment whose `eval` measures its start model."""

    spec: Evaluation
    document: Document
    path: Path

    @classmethod
    def of(cls, document: Document, path: Path) -> Written:
        """That of a document; raises LtrlError with every mistake."""
        match document.data.get("kind", "evaluation"):
            case "experiment":
                return cls(_of_experiment(parse(document, Experiment), document), document, path)
            case "evaluation":
                return cls(parse(document, Evaluation), document, path)
            case other:
                raise LtrlError(wrong_kind(document, other, "evaluation", "experiment"))

    def place(self, keys: Keys) -> Keys:
        """Where a field of `spec` stands in the document."""
        is_section = self.document.data.get("kind") == "experiment"
        return ("eval", *keys) if is_section and keys[0] in EvalSection.model_fields else keys

    def at(self, *keys: str) -> Position:
        """Where a field of `spec` was written, or the nearest thing around it."""
        return self.document.at(self.place(keys))


def written(spec: Path, *, sets: typing.Sequence[str] = (), overlays: typing.Sequence[Path] = ()) -> Written:
    """The evaluation in a file; raises LtrlError with every mistake."""
    return Written.of(source.load(spec, overlays=overlays, sets=sets), spec)


def measurement(asked: Written, *, model: tuple[str, str | None] | None = None) -> Measurement:
    """What is measured, with nothing left open: the model of the spec, or in its place another, given by its directory
    or id and its name. Raises LtrlError with what contradicts itself.
    """
    spec = asked.spec
    subject, context = spec.model, spec.model.context
    total = context.total or context.prompt + context.response
    if context.prompt + context.response > total:
        message = f"`context.total` is {total}, less than prompt {context.prompt} + response {context.response}"
        hint = "leave `total` out: it is the sum by default"
        raise fail(Code.INVALID_VALUE, message, asked.at("model", "context", "total"), hint=hint)
    chat_format = _chat_format(subject, asked)
    base, name = model or (subject.base, None)
    _refuse_too_long(base, total, asked)
    return Measurement(
        name=spec.name,
        section=spec,
        base=base,
        revision=None if model else subject.revision,
        prompt=context.prompt,
        response=context.response,
        total=total,
        chat_format=chat_format,
        endpoint=spec.endpoint,
        served_as=name,
    )


def _of_experiment(spec: Experiment, document: Document) -> Evaluation:
    if spec.eval is None:
        hint = "add `eval` with its `benchmarks`, or write a file of `kind: evaluation`"
        raise fail(Code.MISSING_FIELD, "this experiment has no `eval`", document.at(("kind",)), hint=hint)
    policy, section = spec.model, spec.eval
    return Evaluation.model_construct(
        kind="evaluation",
        name=spec.name,
        description=spec.description,
        model=Subject(
            base=policy.base, revision=policy.revision, context=policy.context, chat_format=policy.chat_format
        ),
        **{name: getattr(section, name) for name in EvalSection.model_fields},
    )


def _refuse_too_long(base: str, total: int, asked: Written) -> None:
    """Raises CONTEXT_TOO_LONG for what the server of a model would refuse; one of which nothing is known passes."""
    spec = asked.spec
    if spec.endpoint is not None or any(option.startswith(_EXTENDING) for option in spec.serve.options):
        return
    try:
        longest = catalog.find(base, project=project.root(asked.path.parent)).max_positions
    except LtrlError:
        return
    if total > longest:
        message = f"a context of {total} tokens is longer than the {longest} positions of `{base}`"
        hint = (
            f"make prompt + response at most {longest}, or extend the model where it is served: "
            "`serve.options: [--hf-overrides, '{…}']`"
        )
        raise fail(Code.CONTEXT_TOO_LONG, message, asked.at("model", "context"), hint=hint)


def _chat_format(model: Subject, asked: Written) -> str:
    if model.chat_format == "auto":
        try:
            card = catalog.find(model.base, project=project.root(asked.path.parent), position=asked.at("model", "base"))
        except LtrlError as error:
            known = ", ".join(f"`{name}`" for name in chat_formats())
            hint = f"or say how its responses are read: `model.chat_format`, one of {known}"
            first = error.diagnostics[0]
            told = Diagnostic(
                first.code, first.message, first.position, f"{first.hint}; {hint}" if first.hint else hint
            )
            raise LtrlError(told) from None
        return card.chat_format
    if not is_chat_format(model.chat_format):
        named = ", ".join(f"`{known}`" for known in ("auto", *chat_formats()))
        hint = close_to(model.chat_format, ("auto", *chat_formats())) or f"installed: {named}"
        raise fail(
            Code.INVALID_VALUE,
            f"unknown chat format `{model.chat_format}`",
            asked.at("model", "chat_format"),
            hint=hint,
        )
    return model.chat_format
