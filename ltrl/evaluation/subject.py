"""Which model is measured, how it is asked and what of: a spec with nothing left open."""

from __future__ import annotations

import typing
from pathlib import Path

from ltrl import catalog, project, source
from ltrl.errors import Code, Diagnostic, LtrlError, fail
from ltrl.evaluation.measure import Measurement
from ltrl.evaluation.spec import Endpoint, EvalSection, Evaluation, Subject
from ltrl.names import close_to
from ltrl.parse import parse, wrong_kind
from ltrl.scoring import chat_formats, is_chat_format
from ltrl.source import Document
from ltrl.spec import Experiment

__all__ = ["evaluation", "measurement", "of_experiment"]


def measurement(spec: Path, *, sets: typing.Sequence[str] = (), overlays: typing.Sequence[Path] = ()) -> Measurement:
    """The evaluation in a file: `kind: evaluation`, or an experiment with `eval`, of its start model.

    Raises LtrlError with every mistake.
    """
    document = source.load(spec, overlays=overlays, sets=sets)
    match document.data.get("kind", "evaluation"):
        case "experiment":
            return of_experiment(parse(document, Experiment), document, spec)
        case "evaluation":
            return evaluation(document, spec)
        case written:
            raise LtrlError(wrong_kind(document, written, "evaluation", "experiment"))


def evaluation(document: Document, path: Path) -> Measurement:
    """The evaluation in a document of `kind: evaluation`; raises LtrlError with every mistake."""
    spec = parse(document, Evaluation)
    return _measurement(document, path, name=spec.name, section=spec, model=spec.model, endpoint=spec.endpoint)


def of_experiment(spec: Experiment, document: Document, path: Path) -> Measurement:
    """What an experiment's `eval` measures, of its start model; raises LtrlError where it has none."""
    if spec.eval is None:
        hint = "add `eval` with its `benchmarks`, or write a file of `kind: evaluation`"
        raise fail(Code.MISSING_FIELD, "this experiment has no `eval`", document.at(("kind",)), hint=hint)
    policy = spec.model
    subject = Subject(
        base=policy.base, revision=policy.revision, context=policy.context, chat_format=policy.chat_format
    )
    section = typing.cast(EvalSection, spec.eval)
    return _measurement(document, path, name=spec.name, section=section, model=subject, endpoint=None)


def _measurement(
    document: Document, path: Path, *, name: str, section: EvalSection, model: Subject, endpoint: Endpoint | None
) -> Measurement:
    context = model.context
    total = context.total or context.prompt + context.response
    if context.prompt + context.response > total:
        message = f"`context.total` is {total}, less than prompt {context.prompt} + response {context.response}"
        hint = "leave `total` out: it is the sum by default"
        raise fail(Code.INVALID_VALUE, message, document.at(("model", "context", "total")), hint=hint)
    chat_format = _chat_format(model, document, path)
    return Measurement(
        name, section, model.base, model.revision, context.prompt, context.response, total, chat_format, endpoint
    )


def _chat_format(model: Subject, document: Document, path: Path) -> str:
    where = document.at(("model", "chat_format"))
    if model.chat_format == "auto":
        try:
            card = catalog.find(
                model.base, project=project.root(path.parent), overrides={}, position=document.at(("model", "base"))
            )
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
        raise fail(Code.INVALID_VALUE, f"unknown chat format `{model.chat_format}`", where, hint=hint)
    return model.chat_format
