"""YAML that PyYAML and OmegaConf read alike, with a comment behind each line. Only data, no anchors, no tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltrl_backends.nemo_rl.config import Setting

__all__ = ["dump_settings", "scalar"]

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def dump_settings(head: Iterable[str], found: Iterable[Setting]) -> str:
    """The settings as one document in their order, each with the field that it comes from behind it."""
    lines = [f"# {line}".rstrip() for line in head]
    open_blocks: tuple[str, ...] = ()
    for setting in found:
        *around, name = setting.steps
        shared = 0
        while shared < min(len(around), len(open_blocks)) and around[shared] == open_blocks[shared]:
            shared += 1
        if not shared:
            lines.append("")
        lines += [f"{'  ' * depth}{_key(around[depth])}:" for depth in range(shared, len(around))]
        open_blocks = tuple(around)
        indent = "  " * len(around)
        first, *rest = _value(setting.value, len(around))
        lines.append(f"{indent}{_key(name)}:{first}{_comment(setting)}")
        lines += rest
    return "\n".join(lines) + "\n"


def _comment(setting: Setting) -> str:
    said = "; ".join(part for part in (setting.field, setting.why) if part)
    return f"  # {said}" if said else ""


def _value(value: Any, depth: int) -> Iterator[str]:
    """What follows the colon, then the lines below."""
    if isinstance(value, Mapping) and value:
        yield ""
        for key, inner in value.items():
            first, *rest = _value(inner, depth + 1)
            yield f"{'  ' * (depth + 1)}{_key(str(key))}:{first}"
            yield from rest
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        yield ""
        for item in value:
            _, *block = _value(item, depth + 1)
            lead = "  " * (depth + 1)
            yield f"{lead}- {block[0].strip()}"
            yield from block[1:]
    else:
        yield f" {scalar(value)}"


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) and name.lower() not in _WORDS else json.dumps(name)


def scalar(value: Any) -> str:
    """One value on one line. A float always has a point and a signed exponent: PyYAML reads `1e-8` as text."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            text = repr(value)
            mantissa, e, exponent = text.partition("e")
            return f"{mantissa}.0e{exponent}" if e and "." not in mantissa else text
        case int():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(scalar(item) for item in value) + "]"
        case Mapping():
            return "{" + ", ".join(f"{_key(str(k))}: {scalar(v)}" for k, v in value.items()) + "}"
    # `${` is OmegaConf's interpolation, a backslash takes that meaning away; JSON's strings are YAML's.
    return json.dumps(_INTERPOLATION.sub(r"\1\1\\${", str(value)))
