"""From a Document to a checked model; every mistake in the user's words, at its line.

pydantic finds the mistakes, this module says them: where (from the document's positions), what (`ltrl.words` has
pydantic's English in ours) and what to do (the nearest name, the allowed values, the level where a key belongs).
"""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from ltrl import names, words
from ltrl.backend import Model, docstrings
from ltrl.errors import Code, Diagnostic, LtrlError, Position, raise_if_any
from ltrl.leaks import COVER, covered
from ltrl.references import Malformed, Treatment, find, keeps_a_secret, names_a_secret, place, resolve
from ltrl.slots import child, fields_of, slot
from ltrl.source import Document, Keys, plain, put, walk, written_out

__all__ = ["fields_of", "parse", "wrong_kind"]

M = TypeVar("M", bound=Model)


def parse(document: Document, model: type[M]) -> M:
    """The model's instance for a document; raises LtrlError with every mistake, each at its place."""
    values = _Values(document, model)
    found: list[Diagnostic] = []
    made: M | None = None
    kind = typing.get_args(model.model_fields["kind"].annotation)[0] if "kind" in model.model_fields else None
    written = values.data.get("kind", kind)
    if kind is not None and written != kind:
        found.append(wrong_kind(document, written, kind))
    else:
        try:
            made = model.model_validate_json(json.dumps(values.data))
        except pydantic.ValidationError as error:
            found += values.diagnostics(error)
    found = _distinct([*document.mistakes, *values.mistakes], found)
    raise_if_any(covered(_distinct(found, values.not_finite()), values.secrets))
    assert made is not None, "pydantic finds a mistake or makes the model"
    return made


def wrong_kind(document: Document, written: object, *kinds: str) -> Diagnostic:
    """The mistake of a file that is not of a kind that can be used here."""
    expected = " or ".join(f"`kind: {kind}`" for kind in kinds)
    said = "`kind` is empty" if written is None else f"this is `kind: {written}`"
    hint = names.close_to(written, kinds)
    if hint is None and written == "cluster":
        hint = "a cluster profile goes with a spec: `ltrl check SPEC --cluster FILE`"
    if hint is None and written == "dataset":
        hint = "a data set is built, not trained: `ltrl data build FILE`; `ltrl fields dataset` lists its fields"
    if hint is None and written == "evaluation":
        hint = "an evaluation trains nothing: `ltrl eval FILE`, with `--cluster NAME` as a job of its own"
    message = f"{said}, expected {expected}"
    return Diagnostic(Code.WRONG_KIND, message, document.at(("kind",)), hint or f"write {expected}")


def _distinct(first: Iterable[Diagnostic], then: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Each mistake once; where one was found in the text itself, what follows from it says nothing more."""
    told = {(d.code, d.message, d.position): d for d in first}
    taken = {(p.source.name, p.line, p.column) for d in told.values() if (p := d.position)}
    for d in then:
        p = d.position
        if p is None or (p.source.name, p.line, p.column) not in taken:
            told[d.code, d.message, d.position] = d
    return list(told.values())


class _Values:
    """A document's values with references resolved, and what is wrong with them."""

    def __init__(self, document: Document, model: type[Model]) -> None:
        self.document = document
        self.model = model
        self.data: Any = document.data
        self.mistakes: list[Diagnostic] = []
        self.unresolved: set[Keys] = set()
        """Where a reference leads nowhere; what else is wrong with such a value is not known."""
        self.secrets: set[str] = set()
        """Secrets that are written out, by no form of their own but by where they stand."""
        texts = [(path, value) for path, value in walk(document.data) if isinstance(value, str)]
        # A section's backend is named by a reference too, perhaps, and says what its other fields are.
        for path, text in sorted(texts, key=lambda leaf: (len(leaf[0]), leaf[0][-1:] not in (("backend",), ("name",)))):
            self._look_at(path, text)

    def _look_at(self, path: Keys, text: str) -> None:
        has_secret_name = names_a_secret(str(path[-1]))
        if "${" not in text and (not has_secret_name or COVER in text):
            return
        found = slot(self.model, path, self.data)
        where = self.document.at(path)
        if Treatment.SECRET in found.treatments:
            return  # its pattern says it all
        if found.is_free and not found.treatments and text and keeps_a_secret(str(path[-1]), text):
            self._refuse_secret(path, text, where)
            return
        if "${" not in text:
            if Treatment.LATE in found.treatments and text:
                self.secrets.add(text)
                self.mistakes.append(written_out(f"the secret `{words.dotted(path)}`", where))
            return
        if Treatment.SHELL in found.treatments:
            if start := re.search(r"\$\{(env|file):[^}]*\}?", text):
                message = f"`{start[0]}` means nothing to a shell"
                hint = "a shell line reads its variables itself, `$NAME`; `environment` gives them to the job"
                at = place(where, start[0])
                self.mistakes.append(Diagnostic(Code.BAD_REFERENCE, message, at, hint))
            return
        try:
            references = list(find(text))
            if Treatment.LATE in found.treatments:
                if has_secret_name and any(reference.default for reference in references):
                    self.mistakes.append(written_out(f"a default of the secret `{words.dotted(path)}`", where))
                    self.secrets |= {reference.default for reference in references if reference.default}
                return
            if not references:
                return
            value: Any = resolve(text, where)
            if references[0].text == text and not _is_text(found.annotation):
                value = plain(value)
            self.data = put(self.data, path, value)
        except Malformed as error:
            self.unresolved.add(path)
            self.mistakes.append(Diagnostic(Code.BAD_REFERENCE, str(error), place(where, error.text), error.hint))
        except LtrlError as error:
            self.unresolved.add(path)
            self.mistakes += error.diagnostics

    def _refuse_secret(self, path: Keys, text: str, where: Position) -> None:
        """A secret in a section that takes any key: a reference would be resolved there too."""
        name = words.dotted(path)
        hint = "a secret goes into a field for one (`api_key`) or the cluster profile's `environment`"
        if "${" in text:
            message = f"`{name}` is there to hold a secret, and what stands here is shown and written into the bundle"
            self.mistakes.append(Diagnostic(Code.BAD_REFERENCE, message, where, hint))
        else:
            self.secrets.add(text)
            self.mistakes.append(replace(written_out(f"the secret `{name}`", where), hint=hint))

    def not_finite(self) -> Iterator[Diagnostic]:
        """Numbers that JSON has not; pydantic lets them pass where a field takes anything."""
        for path, value in walk(self.data):
            if isinstance(value, float) and not math.isfinite(value):
                message = f"`{words.dotted(path)}` is {words.shown(value)}, expected a finite number"
                yield Diagnostic(Code.INVALID_VALUE, message, self.document.at(path), self._meaning(path))

    def diagnostics(self, error: pydantic.ValidationError) -> Iterator[Diagnostic]:
        """What pydantic found, in our words."""
        for details in error.errors(include_url=False):
            path = self._without_branches(tuple(step for step in details["loc"] if step != "[key]"))
            is_counted = details["type"] == "too_short"  # pydantic leaves out items with mistakes of their own
            if is_counted and len(_inside(self.data, path) or ()) >= details["ctx"]["min_length"]:
                continue
            value = details["input"]
            is_covered = isinstance(value, str) and COVER in value and details["type"] != "extra_forbidden"
            if path not in self.unresolved and not is_covered:
                yield self._diagnostic(path, details)

    def _diagnostic(self, path: Keys, error: ErrorDetails) -> Diagnostic:
        is_key = "[key]" in error["loc"]
        context = error.get("ctx", {})
        match error["type"]:
            case "missing" if path and isinstance(path[-1], int):  # an item of a list with a fixed number of them
                items = typing.get_args(slot(self.model, path[:-1], self.data).annotation)
                return self._miscounted(path[:-1], str(len(items)))
            case "missing":
                return self._missing(path, context.get("hint"))
            case "extra_forbidden":
                return self._unknown(path)
            case "too_short" | "too_long":
                return self._miscounted(path, words.expected(error["type"], context, "")[0])
            case "value_error" | "assertion_error":  # raised by a model's own validator, in the user's words
                return self._refused(path, str(context["error"]))
        document = self.document
        if error["type"] in set(Code):  # a backend that does not load, said by the registry
            return Diagnostic(Code(error["type"]), str(context["message"]), document.at(path), context["hint"])
        value = path[-1] if is_key else error["input"]
        if Treatment.SECRET in slot(self.model, path, self.data).treatments and isinstance(value, str):
            self.secrets.add(value)
            return written_out(f"the secret `{words.dotted(path)}`", document.at(path))
        expected, is_type = words.expected(error["type"], context, error["msg"])
        code = Code.WRONG_TYPE if is_type else Code.INVALID_VALUE
        name = words.dotted(path[:-1] if is_key else path)
        message = f"the name {words.shown(value)} under `{name}`" if is_key else f"`{name}` is {words.shown(value)}"
        where = document.at(path, key=is_key)
        written = where.line_text[where.column - 1 :][: where.width]
        hint = context.get("hint") or words.hint(error["type"], context, value, written) or self._meaning(path)
        return Diagnostic(code, f"{message}, expected {expected}", where, hint)

    def _without_branches(self, path: Keys) -> Keys:
        """The path without the names that pydantic gives to the members of a union."""
        real: Keys = ()
        for i, step in enumerate(path):
            around = _inside(self.data, real)
            is_there = isinstance(around, dict) and (step in around or i == len(path) - 1)
            if is_there or isinstance(step, int) or fields_of(self.model, real, self.data):
                real = (*real, step)
        return real

    def _meaning(self, path: Keys) -> str | None:
        found = slot(self.model, path, self.data)
        if isinstance(found.annotation, type) and issubclass(found.annotation, Model):
            listed = ", ".join(f"`{name}`" for name in found.annotation.model_fields)
            return f"fields of `{found.field}`: {listed}"
        return f"`{found.field}`: {words.first(found.description)}" if found.description else None

    def _miscounted(self, path: Keys, expected: str) -> Diagnostic:
        has = words.counted(len(_inside(self.data, path)), "item")
        message = f"`{words.dotted(path)}` has {has}, expected {expected}"
        return Diagnostic(Code.INVALID_VALUE, message, self.document.at(path), self._meaning(path))

    def _refused(self, path: Keys, message: str) -> Diagnostic:
        """A validator's message, at the field inside its section that it names."""
        if fields_of(self.model, path, self.data) is None:
            message = f"`{words.dotted(path)}` {message}"
        named = re.findall(r"`([a-z_]+)(?:: [^`]*)?`", message)
        written = [(*path, name) for name in named if (*path, name) in self.document.values]
        where = self.document.at(written[0]) if written else self.document.at(path)
        return Diagnostic(Code.INVALID_VALUE, message, where, self._meaning(written[0] if written else path))

    def _missing(self, path: Keys, hint: str | None) -> Diagnostic:
        *around, name = path
        section = words.dotted(around)
        owner = fields_of(self.model, tuple(around), self.data)
        info = owner.model_fields.get(str(name)) if owner else None
        if info and len(only := typing.get_args(info.annotation)) == 1 and isinstance(only[0], str):
            hint = f"write `{name}: {only[0]}`"
        if hint is None and owner and (meaning := docstrings(owner).get(str(name))):
            hint = f"`{name}`: {words.first(meaning)}"
        place = f" in `{section}`" if section else ""
        document = self.document
        position = document.at(tuple(around), key=bool(around))
        if not around:  # the root has no key of its own: point at the first line that is written
            written = document.keys.values()
            position = min(written, key=lambda p: (p.source != document.sources[0], p.line), default=position)
        return Diagnostic(Code.MISSING_FIELD, f"missing field `{name}`{place}", position, hint)

    def _unknown(self, path: Keys) -> Diagnostic:
        *around, name = path
        section = words.dotted(around)
        owner = fields_of(self.model, tuple(around), self.data)
        here = list(owner.model_fields) if owner else []
        where = f"in `{section}`" if section else "at the top level"
        hint = names.instead(str(name), here, section, self._everywhere)
        position = self.document.at(path, key=True)
        return Diagnostic(Code.UNKNOWN_FIELD, f"unknown field `{name}` {where}", position, hint)

    @cached_property
    def _everywhere(self) -> list[tuple[str, str]]:
        return list(self._all_fields())

    def _all_fields(self, path: Keys = ()) -> Iterator[tuple[str, str]]:
        """(section, field) of every field, in the sections that the document's backends choose."""
        owner = fields_of(self.model, path, self.data)
        if owner is None:
            return
        for name in owner.model_fields:
            yield words.dotted(path), name
        for name in owner.model_fields:
            yield from self._all_fields((*path, name))


def _is_text(annotation: Any) -> bool:
    """Whether a value of this type may be any text."""
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(a, str) for a in typing.get_args(annotation))
    return annotation is str


def _inside(data: Any, path: Keys) -> Any:
    for step in path:
        data = child(data, step)
    return data
