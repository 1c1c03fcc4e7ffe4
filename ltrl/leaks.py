"""Secrets that were written out: found by their form, and covered before anything is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ltrl.errors import Diagnostic, Position, Source

__all__ = ["COVER", "Leak", "cover", "covered", "leaks"]

COVER = "•"
"""What a covered character is shown as."""

SHORTEST = 4
"""Shorter texts are no secrets, and covering them would cover half a file."""

# Only forms that nothing else has: a commit, a digest or a model's name is not taken for a key. Sources: the providers'
# documentation of their tokens' prefixes, and the patterns of GitHub's secret scanning.
_FORMS = (
    ("an OpenAI or Anthropic key", r"\bsk-(?:[a-z]+[0-9]*-)*[A-Za-z0-9_-]{20,}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("a W&B key", r"\bwandb_v1_[A-Za-z0-9_]{20,}|\blocal-[0-9a-f]{40}\b"),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{40,}"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}"),
    ("a Google key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("an NVIDIA key", r"\bnvapi-[A-Za-z0-9_-]{20,}"),
    ("a signed web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    (
        "a private key",
        r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:\s+[A-Za-z0-9+/=]+)*(?:\s+-----END [A-Z ]*KEY-----)?",
    ),
    ("a password in an address", r"(?<=://)[^\s/:@$\"']+:[^\s/@$\"'{}]+(?=@)"),
)
# Beside a name that ends in `key`, `token`, … anything random counts: W&B's old keys are 40 hexadecimal digits, AWS's
# secret ones 40 of base64.
_NAMED = (
    r"(?:key|token|secret|password|passwd|credentials?)[\"']?[ \t]*[:=]\s*[\"']?"
    r"(?P<value>[0-9a-f]{32,64}|(?=[^\s:]{0,80}[0-9])(?=[^\s:]{0,80}[A-Za-z])(?:[A-Za-z0-9]{20,200}|[A-Za-z0-9+][A-Za-z0-9+/]{39}))"
    r"(?![\w:/.+-])"
)
_AFTER_WORDS = (
    ("a key", _NAMED),
    ("an AWS secret key", r"secret_?access_?key[\"']?[ \t]*[:=]\s*[\"']?(?P<value>[A-Za-z0-9+/]{40})(?![\w/+])"),
    ("a W&B key", r"\bwandb[ \t]+login\b[^\r\n]{0,80}?\b(?P<value>[0-9a-f]{40})\b"),
    ("a bearer token", r"\bbearer[ \t]+(?P<value>(?=[\w.~+/-]{0,80}[0-9])[\w.~+/-]{20,}=*)"),
    ("a bearer token", r"\bauthorization[\"']?\s*[:=]\s*[\"']?bearer[ \t]+(?P<value>[\w.~+/-]{8,}=*)"),
)
_FORM = re.compile("|".join(f"(?P<f{i}>{pattern})" for i, (_, pattern) in enumerate(_FORMS)))
_AFTER = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _AFTER_WORDS)


@dataclass(frozen=True, slots=True)
class Leak:
    """A stretch of a text that is a secret."""

    start: int
    end: int
    what: str


def leaks(text: str) -> list[Leak]:
    """The secrets in a text, in their order; none overlaps another."""
    found = sorted([*_by_form(text), *_by_name(text)], key=lambda leak: (leak.start, -leak.end))
    apart: list[Leak] = []
    for leak in found:
        if not apart or leak.start >= apart[-1].end:
            apart.append(leak)
    return apart


def cover(text: str, found: Iterable[Leak]) -> str:
    """The text with secrets, given in their order, covered; every other character stays where it is."""
    parts, done = [], 0
    for leak in found:
        parts += [text[done : leak.start], re.sub(r"[^\r\n]", COVER, text[leak.start : leak.end])]
        done = leak.end
    return "".join([*parts, text[done:]])


def covered(diagnostics: Iterable[Diagnostic], secrets: Iterable[str]) -> list[Diagnostic]:
    """Diagnostics in whose messages, hints and source lines the given texts are covered."""
    hidden = sorted(
        {part for text in secrets for part in map(str.strip, text.splitlines()) if len(part) >= SHORTEST},
        key=len,
        reverse=True,
    )

    def clean(text: str) -> str:
        for part in hidden:
            text = text.replace(part, COVER * len(part))
        return text

    def moved(position: Position) -> Position:
        source = position.source
        return replace(position, source=Source(clean(source.name), clean(source.text), clean(source.label)))

    return [
        replace(
            d,
            message=clean(d.message),
            hint=clean(d.hint) if d.hint else None,
            position=moved(d.position) if d.position else None,
            related=tuple((what, moved(where)) for what, where in d.related),
        )
        for d in diagnostics
    ]


def _by_form(text: str) -> Iterator[Leak]:
    for match in _FORM.finditer(text):
        name = match.lastgroup
        assert name is not None
        yield Leak(match.start(), match.end(), _FORMS[int(name[1:])][0])


def _by_name(text: str) -> Iterator[Leak]:
    for what, pattern in _AFTER:
        for match in pattern.finditer(text):
            yield Leak(*match.span("value"), what)
