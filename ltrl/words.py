"""pydantic's English in ours: what a value was expected to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["counted", "dotted", "expected", "first", "hint", "shown"]


def dotted(path: Iterable[str | int]) -> str:
    """A path as one types it: `reward.judge.model`."""
    return ".".join(str(step) for step in path)


def first(description: str | None) -> str:
    """The first sentence of a field's description."""
    whole = " ".join((description or "").split())
    return re.split(r"(?<=[a-z0-9)`]\.) (?=[A-Z`])", whole)[0]


_TYPES: dict[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "fraction_type": "a fraction",
    "fraction_parsing": "a fraction",
    "complex_type": "a number",
    "complex_str_parsing": "a number",
    "bool_type": "`true` or `false`",
    "bool_parsing": "`true` or `false`",
    "none_required": "nothing (`null`)",
    "string_type": "text",
    "string_unicode": "text",
    "bytes_type": "text",
    "dict_type": "`field: value` lines",
    "frozen_dict_type": "`field: value` lines",
    "ordered_dict_type": "`field: value` lines",
    "counter_type": "`field: value` lines",
    "mapping_type": "`field: value` lines",
    "model_type": "`field: value` lines",
    "model_attributes_type": "`field: value` lines",
    "dataclass_type": "`field: value` lines",
    "dataclass_exact_type": "`field: value` lines",
    "arguments_type": "`field: value` lines",
    "list_type": "a list",
    "tuple_type": "a list",
    "named_tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "deque_type": "a list",
    "iterable_type": "a list",
    "date_type": "a date, `2026-11-22`",
    "date_parsing": "a date, `2026-11-22`",
    "date_from_datetime_parsing": "a date, `2026-11-22`",
    "date_from_datetime_inexact": "a date without a time",
    "time_type": "a time, `10:30:00`",
    "time_parsing": "a time, `10:30:00`",
    "datetime_type": "a date and time, `2026-11-22T10:30:00`",
    "datetime_parsing": "a date and time, `2026-11-22T10:30:00`",
    "datetime_object_invalid": "a date and time, `2026-11-22T10:30:00`",
    "datetime_from_date_parsing": "a date and time, `2026-11-22T10:30:00`",
    "time_delta_type": "a duration, `PT10M` or seconds",
    "time_delta_parsing": "a duration, `PT10M` or seconds",
    "url_type": "an address, `https://host/path`",
    "uuid_type": "a UUID",
    "uuid_parsing": "a UUID",
    "union_tag_not_found": "a section that says which kind it is",
    "is_instance_of": "another kind of value",
    "is_subclass_of": "another kind of value",
    "callable_type": "another kind of value",
    "json_type": "text",
    "section": "the name of {kind} backend or its section",
}
"""Mistakes of type: what was expected, by pydantic's name of the mistake."""

_VALUES: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than": lambda c: f"more than {_number(c['gt'])}",
    "greater_than_equal": lambda c: f"at least {_number(c['ge'])}",
    "less_than": lambda c: f"less than {_number(c['lt'])}",
    "less_than_equal": lambda c: f"at most {_number(c['le'])}",
    "multiple_of": lambda c: f"a multiple of {_number(c['multiple_of'])}",
    "finite_number": lambda _: "a finite number",
    "literal_error": lambda c: str(c["expected"]).replace("'", "`"),
    "enum": lambda c: str(c["expected"]).replace("'", "`"),
    "union_tag_invalid": lambda c: str(c["expected_tags"]).replace("'", "`"),
    "string_pattern_mismatch": lambda c: f"text of the form `{c['pattern']}`",
    "string_too_short": lambda c: f"at least {counted(c['min_length'], 'character')}",
    "string_too_long": lambda c: f"at most {counted(c['max_length'], 'character')}",
    "string_not_ascii": lambda _: "text of ASCII characters",
    "bytes_too_short": lambda c: f"at least {counted(c['min_length'], 'byte')}",
    "bytes_too_long": lambda c: f"at most {counted(c['max_length'], 'byte')}",
    "bytes_invalid_encoding": lambda c: f"{c['encoding']} text",
    "too_short": lambda c: f"at least {c['min_length']}",
    "too_long": lambda c: f"at most {c['max_length']}",
    "set_item_not_hashable": lambda _: "a list of plain values",
    "date_past": lambda _: "a date in the past",
    "date_future": lambda _: "a date in the future",
    "datetime_past": lambda _: "a time in the past",
    "datetime_future": lambda _: "a time in the future",
    "timezone_naive": lambda _: "a time without a zone",
    "timezone_aware": lambda _: "a time with a zone, `2026-11-22T10:30:00Z`",
    "timezone_offset": lambda _: "a time in another zone",
    "url_parsing": lambda _: "an address, `https://host/path`",
    "url_syntax_violation": lambda _: "an address, `https://host/path`",
    "url_too_long": lambda c: f"at most {counted(c['max_length'], 'character')}",
    "url_scheme": lambda c: f"an address that begins with {str(c['expected_schemes']).replace(chr(39), '`')}",
    "uuid_version": lambda c: f"a UUID of version {c['expected_version']}",
    "decimal_max_digits": lambda c: f"at most {counted(c['max_digits'], 'digit')}",
    "decimal_max_places": lambda c: f"at most {counted(c['decimal_places'], 'digit')} after the point",
    "decimal_whole_digits": lambda c: f"at most {counted(c['whole_digits'], 'digit')} before the point",
}
"""Mistakes of value."""

_YES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def expected(kind: str, context: dict[str, Any], own: str) -> tuple[str, bool]:
    """What was expected, and whether the mistake is one of type; `own` is what a backend's own error says."""
    if kind in _TYPES:
        return _TYPES[kind].format(**context) if kind == "section" else _TYPES[kind], True
    if kind in _VALUES:
        return _VALUES[kind](context), False
    return own[:1].lower() + own[1:].rstrip("."), False


def hint(kind: str, context: dict[str, Any], value: Any, written: str) -> str | None:
    """What to write instead, where the value tells; `written` is how it stands in the file."""
    if kind in ("literal_error", "enum", "union_tag_invalid") and isinstance(value, str):
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
        close = difflib.get_close_matches(value.lower(), allowed, n=1)
        return f"did you mean `{close[0]}`?" if close else f"write `{allowed[0]}`" if len(allowed) == 1 else None
    if kind in ("bool_type", "bool_parsing") and isinstance(value, str):
        if value.lower() in _YES:
            return f"write `{_YES[value.lower()]}`: in YAML 1.2 `{value}` is text"
        return "leave out the quotes" if value.lower() in ("true", "false") else None
    if kind in ("bool_type", "bool_parsing") and value in (0, 1):
        return f"write `{'true' if value else 'false'}`"
    if kind in ("int_type", "int_parsing", "float_type", "float_parsing") and isinstance(value, str):
        return _number_hint(value, whole=kind.startswith("int"))
    if kind == "int_from_float" or (kind in ("int_type",) and isinstance(value, float)):
        return f"write `{int(value)}`" if isinstance(value, float) and value.is_integer() else None
    if kind == "string_type" and isinstance(value, bool | int | float):
        what = "`true` or `false`" if isinstance(value, bool) else "a number"
        return f'write `"{written}"`: without quotes this is {what}'
    if kind == "string_pattern_mismatch" and isinstance(value, str):
        tidy = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("-._")
        return f"did you mean `{tidy}`?" if tidy and re.fullmatch(str(context["pattern"]), tidy) else None
    if _TYPES.get(kind) == "a list" and isinstance(value, str | int | float):
        return f"write `[{value}]`" if not isinstance(value, bool) else None
    return None


def _number_hint(text: str, *, whole: bool) -> str | None:
    plain = text.replace("_", "").replace(",", "")
    try:
        number = float(plain)
    except ValueError:
        if match := re.fullmatch(r"0b([01]+)", text):
            return f"write `{int(match[1], 2)}`: YAML 1.2 has no binary numbers"
        if re.fullmatch(r"\d{1,3}(:\d\d)+", text):
            return "YAML 1.2 has no numbers to base 60: write the number itself"
        return None
    if plain == text:
        return "leave out the quotes" if not whole or number.is_integer() else None
    return f"write `{plain}`: a number has no `_` or `,`"


def shown(value: Any) -> str:
    """A value as the user knows it, with its type where that is what is wrong."""
    match value:
        case None:
            return "empty"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return f'`"{value}"`' if len(value) <= 60 else f'`"{value[:57]}…"`'
        case dict():
            return "a section"
        case list():
            return "a list"
        case _:
            return f"`{value}`"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def counted(number: int, noun: str) -> str:
    """`1 item`, `2 items`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
