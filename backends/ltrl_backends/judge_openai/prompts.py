"""What the judge is asked, by template name. The wording of `hle-style` is ours, the others are quoted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ltrl.scoring import JudgeRequest

__all__ = ["TEMPLATES", "Template"]

Template = Literal["hle-style", "aa-lcr", "frames"]


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
    """AA-LCR's equality checker, as its dataset card gives it (ArtificialAnalysis/AA-LCR 1.0, Apache-2.0)."""
    return f"""Assess whether the following CANDIDATE ANSWER is CORRECT or INCORRECT.
For the CANDIDATE ANSWER to be correct, it must be consistent with the OFFICIAL ANSWER.

The question, for reference only: {request.question}
The OFFICIAL ANSWER: {request.label}
CANDIDATE ANSWER TO ASSESS: {request.response}

Reply only with CORRECT or INCORRECT.
"""


def _frames(request: JudgeRequest) -> str:
    """The auto-rating prompt of FRAMES (Krishna et al. 2024, arXiv 2409.12941, appendix), quoted."""
    return f"""===Task===
I need your help in evaluating an answer provided by an LLM against a ground truth answer. Your task is to determine \
if the ground truth answer is present in the LLM's response. Please analyze the provided data and make a decision.
===Instructions===
1. Carefully compare the "Predicted Answer" with the "Ground Truth Answer".
2. Consider the substance of the answers - look for equivalent information or correct answers. Do not focus on exact \
wording unless the exact wording is crucial to the meaning.
3. Your final decision should be based on whether the meaning and the vital facts of the "Ground Truth Answer" are \
present in the "Predicted Answer:"
===Input Data===
- Question: {request.question}
- Predicted Answer: {request.response}
- Ground Truth Answer: {request.label}
===Output Format===
Provide your final evaluation in the following format:
"Explanation:" (How you made the decision?)
"Decision:" ("TRUE" or "FALSE" )
Please proceed with the evaluation.
"""


TEMPLATES: dict[Template, Callable[[JudgeRequest], str]] = {"hle-style": _hle, "aa-lcr": _aa_lcr, "frames": _frames}
