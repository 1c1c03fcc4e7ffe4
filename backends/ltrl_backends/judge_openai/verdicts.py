"""What a judge's reply says."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ltrl_backends.judge_openai.prompts import Template

__all__ = ["ReferenceReply", "reference_parse", "strict_parse"]

# Each repetition can end at one place only: a reply of 100 kB of dashes takes milliseconds.
_VERDICT_LINE = re.compile(
    r"^(?:[^\w\n]|_)*correct(?:[^\w:=]|_)*[:=][\W_]*(yes|no|true|false)[\W_]*$", re.IGNORECASE | re.MULTILINE
)
_DECISION = re.compile(r"^(?:[^\w\n]|_)*decision[\W_]*(true|false)[\W_]*$", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(r"[\W_]*(in)?correct[\W_]*", re.IGNORECASE)
_YES = {"yes": True, "true": True, "no": False, "false": False}

_REFERENCE_VERDICT = re.compile(r"\*{0,2}correct\*{0,2}\s*:\s*(no|yes)", re.IGNORECASE)
_REFERENCE_EXTRACTION = re.compile(r"\*{0,2}extracted_final_answer\*{0,2}\s*:\s*(.+)", re.IGNORECASE)


def strict_parse(reply: str, template: Template) -> bool | None:
    """The verdict that a reply gives plainly and once, as text or as a JSON object; None for any other reply."""
    text = reply.rpartition("</think>")[2].strip()
    if template == "aa-lcr":
        match = _WORD.fullmatch(text.splitlines()[-1]) if text else None
        return match[1] is None if match else None
    if template == "frames":
        decisions = {_YES[word.lower()] for word in _DECISION.findall(text)}
        return decisions.pop() if len(decisions) == 1 else None
    fields = _json_object(text)
    if fields is not None:
        said = fields.get("correct")
        return _YES.get(str(said).strip().lower()) if isinstance(said, str | bool) else None
    verdicts = {_YES[word.lower()] for word in _VERDICT_LINE.findall(text)}
    return verdicts.pop() if len(verdicts) == 1 else None


def _json_object(text: str) -> dict[str, object] | None:
    text = re.sub(r"\A```(?:json)?\s*", "", text).removesuffix("```").rstrip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class ReferenceReply(NamedTuple):
    """A reply as LongTraceRL reads it."""

    verdict: str | None
    """`yes` or `no` as written, of the first place that looks like a verdict, wherever it stands."""
    is_complete: bool
    """Whether there is an extracted answer too; a reply without one is asked for again."""


def reference_parse(reply: str) -> ReferenceReply:
    """The reply read with LongTraceRL's expressions."""
    verdict = _REFERENCE_VERDICT.search(reply)
    extraction = _REFERENCE_EXTRACTION.search(reply)
    return ReferenceReply(verdict[1] if verdict else None, bool(verdict and extraction))
