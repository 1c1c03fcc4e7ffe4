"""OmegaConf's interpolations in a NeMo-RL configuration, as far as the file itself decides them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ltrl.errors import Code, Diagnostic, Position

__all__ = ["interpolated"]

_INNERMOST = re.compile(r"(?<!\\)\$\{([^${}]*)\}")
_ESCAPED = re.compile(r"\\(\$\{)")
MAX_DEPTH = 40


def interpolated(
    data: Mapping[str, Any], at: Callable[..., Position], report: Callable[[Diagnostic], None]
) -> dict[str, Any]:
    """The data with `${a.b}`, `${.sibling}`, `${mul:a,b}`, `${div:a,b}` and `${max:a,b}` worked out.

    What the environment decides (`${oc.env:NAME}`) stays as written and is reported, as is what leads nowhere.
    """
    return _Interpolation(data, at, report).value(data, ())  # type: ignore[no-any-return]


class _Interpolation:
    def __init__(
        self, data: Mapping[str, Any], at: Callable[..., Position], report: Callable[[Diagnostic], None]
    ) -> None:
        self.data, self.at, self.report = data, at, report

    def value(self, value: Any, path: tuple[str | int, ...], depth: int = 0) -> Any:
        if isinstance(value, Mapping):
            return {name: self.value(inner, (*path, name), depth) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, (*path, i), depth) for i, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return self.text(value, path, depth)
        return value

    def text(self, text: str, path: tuple[str | int, ...], depth: int) -> Any:
        written = text
        for _ in range(MAX_DEPTH):
            found = _INNERMOST.search(text)
            if not found:
                return _ESCAPED.sub(r"\1", text)
            known, value = self.one(found[1], path, depth)
            if not known:
                return written
            if found[0] == text:
                return value
            text = text[: found.start()] + _plain(value) + text[found.end() :]
        return written

    def one(self, inside: str, path: tuple[str | int, ...], depth: int) -> tuple[bool, Any]:
        """Whether an interpolation is known here, and its value."""
        name, is_call, rest = inside.partition(":")
        if is_call:
            arguments = [_number(part.strip()) for part in rest.split(",")]
            is_numeric = all(isinstance(a, int | float) for a in arguments)
            if name in _CALLS and is_numeric and (len(arguments) == 2 or name == "add"):
                return True, _CALLS[name](*arguments)
            if name in _CALLS and is_numeric:
                self.warn(path, f"`${{{inside}}}` does not have two numbers, as NeMo-RL's `{name}` does")
                return False, None
            self.warn(path, f"`${{{inside}}}` is known only when the job runs")
            return False, None
        if depth > MAX_DEPTH:
            self.warn(path, f"`${{{inside}}}` leads back to itself")
            return False, None
        steps = self.target(inside, path)
        place: Any = self.data
        for step in steps:
            if isinstance(place, Mapping) and step in place:
                place = place[step]
            else:
                self.warn(path, f"`${{{inside}}}` names nothing in this file")
                return False, None
        return True, self.value(place, steps, depth + 1)

    def target(self, inside: str, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        dots = len(inside) - len(inside.lstrip("."))
        base = path[: len(path) - dots] if dots else ()
        return (*base, *inside[dots:].split("."))

    def warn(self, path: tuple[str | int, ...], message: str) -> None:
        self.report(Diagnostic(Code.NOT_IMPORTED, message, self.at(path), "write the value out", "warning"))


def _div(a: float, b: float) -> float:
    quotient = a / b if b else float("nan")
    return int(quotient) if quotient == quotient // 1 else quotient


_CALLS: dict[str, Callable[..., Any]] = {"mul": lambda a, b: a * b, "div": _div, "max": max, "add": lambda *n: sum(n)}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
