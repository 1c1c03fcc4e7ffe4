"""What the judge is asked, by template name. The wording is ours; the fields are those of the benchmarks named."""

from __future__ import annotations

from collections.abc import Callable

from ltrl.scoring import JudgeRequest

__all__ = ["TEMPLATES"]


def _hle(request: JudgeRequest) -> str:
    return f"""Decide whether a response to a question gives the correct answer.

[question]
{request.question}

[response]
{request.response}

[correct_answer]
{request.label}

Reply with these three fields, each beginning on a line of its own:

extracted_final_answer: the final answer exactly as the response gives it, or None if it gives none.

reasoning: whether that answer and [correct_answer] mean the same, and why. Compare these two only: do not solve the \
question, do not bring in other knowledge, do not argue for another answer.

correct: yes if the extracted answer means the same as [correct_answer], a small rounding difference in a number \
included; no if it differs, is ambiguous or incomplete, or if there is none.
"""


def _aa_lcr(request: JudgeRequest) -> str:
    return f"""Decide whether a candidate answer agrees with the official answer to a question about a set of documents.

The question: {request.question}

The official answer: {request.label}

The candidate answer: {request.response}

It agrees if it says what the official answer says; other wording, order or format and additional detail that does not \
contradict it are allowed, a missing part is not. Reply with one word, CORRECT or INCORRECT.
"""


TEMPLATES: dict[str, Callable[[JudgeRequest], str]] = {"hle-style": _hle, "aa-lcr": _aa_lcr}
