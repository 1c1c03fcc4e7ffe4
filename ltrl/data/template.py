"""A model's chat template, rendered as `transformers` does it, without `transformers`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ltrl.errors import Code, fail

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["chat_template", "render"]

FILES = ("chat_template.jinja", "tokenizer_config.json")


def chat_template(directory: Path) -> str | None:
    """The template among a model's files; None where they have none. Raises LtrlError when they are broken."""
    own, config = (directory / name for name in FILES)
    try:
        if own.is_file():
            return own.read_text(encoding="utf-8")
        found = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise fail(Code.BAD_DATA, f"cannot read the chat template in `{directory}`: {error}") from None
    if isinstance(found, list):  # several by name
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def render(template: str, messages: Sequence[tuple[str, str]]) -> str:
    """The prompt that a model gets: the messages, and the beginning of its answer.

    Raises LtrlError when the template refuses them.
    """
    import jinja2

    said = [{"role": role, "content": content} for role, content in messages]
    try:
        return _compiled(template).render(messages=said, add_generation_prompt=True, tools=None, documents=None)
    except jinja2.TemplateError as error:
        raise fail(Code.BAD_DATA, f"the model's chat template does not take these messages: {error}") from None


@cache
def _compiled(template: str) -> Template:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda _: ""  # a date is as long on any day
    return environment.from_string(template)
