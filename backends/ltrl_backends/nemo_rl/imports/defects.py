"""What is wrong with a launch script as such: secrets, hosts of one site, kills by name, settings at odds."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ltrl.errors import Code, Diagnostic, Position
from ltrl.leaks import leaks
from ltrl.references import names_a_secret
from ltrl_backends.nemo_rl.imports.flags import number
from ltrl_backends.nemo_rl.imports.uses import is_decided

if TYPE_CHECKING:
    from ltrl.catalog import ModelCard
    from ltrl.script import Script, Word
    from ltrl_backends.nemo_rl.imports.uses import Use

__all__ = ["covered", "defects", "is_secret", "runtime_environment", "secrets"]

_OLD_KEY = re.compile(r"\b[0-9a-f]{40}\b")
"""W&B's old form, which in a script stands alone: `wandb login …`."""

_COLUMN = re.compile(r"--(?!.*api-?key).*-key")
"""A column of the data: `--input-key prompt`."""

_ADDRESS = re.compile(r"\b(?!127\.|0\.0\.0\.0)(?:\d{1,3}\.){3}\d{1,3}\b")
_WILDCARD = re.compile(r"(?<![\d.])0\.0\.0\.0(?![\d.])|\[::\]")
_HOME = re.compile(r"/(root|home/[^/ ]+)/")
_ENVIRONMENT = (
    *("PYTHONUNBUFFERED", "PYTHONPATH", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG"),
    *("NCCL_NVLS_ENABLE", "NCCL_IB_HCA", "NCCL_IB_TC", "NCCL_IB_GID_INDEX", "NCCL_NET_GDR_LEVEL", "NCCL_CUMEM_ENABLE"),
    *("NCCL_IB_QPS_PER_CONNECTION", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TOKENIZERS_PARALLELISM"),
    *("PYTORCH_CUDA_ALLOC_CONF", "WANDB_API_KEY", "HF_HOME", "HF_TOKEN", "OMP_NUM_THREADS"),
)


def defects(
    script: Script, last: Mapping[str, Use], uses: Sequence[Use], card: ModelCard | None, length: int | None
) -> Iterator[Diagnostic]:
    """Warnings: none of these keeps a script from being imported."""
    yield from _secrets(script, uses)
    yield from _machines(script, uses)
    yield from _kills(script)
    yield from _strictness(script)
    yield from _misspelt(script)
    yield from _twice(uses, last)
    yield from _settings(last)
    yield from _positions(last, card, length)


def runtime_environment(script: Script, report: Callable[[Diagnostic], None]) -> Iterator[tuple[str, str, Position]]:
    """(name, value, position) of the variables in Ray's runtime environment; a name that stands twice is reported."""
    for command in script.commands:
        for before, word in zip(command.words, command.words[1:], strict=False):
            joined = word.text.partition("=")
            text = (
                joined[2]
                if joined[0] == "--runtime-env-json"
                else word.text
                if before.text == "--runtime-env-json"
                else ""
            )
            if text:
                yield from _variables(text, word, script, report)


def _variables(
    text: str, word: Word, script: Script, report: Callable[[Diagnostic], None]
) -> Iterator[tuple[str, str, Position]]:
    twice: list[tuple[str, object, object]] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        seen: dict[str, object] = {}
        for name, value in pairs:
            if name in seen:
                twice.append((name, seen[name], value))
            seen[name] = value
        return seen

    # the word is `$RUNTIME_ENV_JSON`; the text is where that was set
    where = next((a.value.position for a in script.assignments if a.value.text == text), word.position)
    try:
        read = json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        report(_warning(where, f"the runtime environment is not JSON: {error}", "its variables are not imported"))
        return
    for name, first, second in twice:
        message = f"`{name}` stands twice in the runtime environment, {first} and {second}; the last one counts"
        report(_warning(_line_of(where, f'"{name}', last=True), message, "keep one of the two"))
    variables = read.get("env_vars", {}) if isinstance(read, dict) else {}
    for name, value in variables.items() if isinstance(variables, dict) else ():
        yield name, str(value), _line_of(where, name)


def _line_of(where: Position, text: str, *, last: bool = False) -> Position:
    """The place of a text in what begins at a position."""
    lines = where.source.text.splitlines()
    plain = text.strip('"')
    found = [
        Position(where.source, number, line.index(plain) + 1, len(plain))
        for number, line in enumerate(lines[where.line - 1 :], where.line)
        if plain in line
    ]
    if not found:
        return where
    # of a name that stands twice, the second
    return found[1] if last and len(found) > 1 else found[0]


def is_secret(name: str, value: str) -> bool:
    """Whether a value looks like a key, or is the literal value of a name that says so."""
    literal = bool(value) and "$" not in value
    return bool(_keys(value)) or (literal and names_a_secret(name) and not _COLUMN.fullmatch(name))


def secrets(script: Script, uses: Sequence[Use]) -> frozenset[str]:
    """The secrets that the script has written out; they appear in nothing that is made of it."""
    words = _words(script)
    keys = {found for word in words for found in _keys(word.text)}
    keys |= {a.value.text for a in script.assignments if is_secret(a.name, a.value.text)}
    keys |= {u.value for u in uses if is_secret(_name_of(u), u.value)}
    return frozenset(key for key in keys if len(key) >= 4)


def _keys(text: str) -> list[str]:
    return [*(text[leak.start : leak.end] for leak in leaks(text)), *_OLD_KEY.findall(text)]


def covered(text: str, hidden: frozenset[str]) -> str:
    """The text with stars for secrets, each as long as what it hides."""
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "*" * len(secret))
    return text


def _name_of(use: Use) -> str:
    return "WANDB_API_KEY" if use.name == "--wandb-key" else use.name


def _secrets(script: Script, uses: Sequence[Use]) -> Iterator[Diagnostic]:
    hint = "read it from the environment of the job: `api_key: ${env:NAME}`, or `environment` of the cluster profile"
    for assignment in script.assignments:
        if is_secret(assignment.name, assignment.value.text):
            yield _warning(assignment.position, f"`{assignment.name}` is a secret, written out in a script", hint)
    for use in uses:
        if use.name == "--wandb-key" or any(is_secret(_name_of(use), word.text) for word in use.words):
            message = f"`{use.name}` hands a secret over as an argument: every user of the machine and Ray's log see it"
            yield _warning(use.position, message, hint)


def _machines(script: Script, uses: Sequence[Use]) -> Iterator[Diagnostic]:
    site = "a site's machines belong into its cluster profile; a spec names none"
    addresses: dict[str, Position] = {}
    for word in _words(script):
        if _WILDCARD.search(word.text):
            message = f"`{_short(word.text)}` listens on every interface of the machine, without a password"
            yield _warning(word.position, message, "listen on 127.0.0.1, or on the one interface that is meant")
        for address in _ADDRESS.findall(word.text):
            addresses.setdefault(address, _line_of(word.position, address))
        if "hostfile" in word.text and word.text.startswith("/"):
            yield _warning(word.position, f"`{word.text}` is a list of machines of one site", site)
    for address, position in addresses.items():
        yield _warning(position, f"the address {address} is that of one site", site)
    homes = [word for use in uses for word in use.words if _HOME.match(word.text)]
    if homes:
        more = f" and {len(homes) - 1} more are paths" if len(homes) > 1 else " is a path"
        message = f"`{homes[0].text}`{more} of one user on one machine"
        yield _warning(homes[0].position, message, "name the published model, or a path that every node sees")
    for command in script.commands:
        target = next((w for w in command.words[1:] if w.text.startswith("root@")), None)
        if command.name in ("ssh", "pdsh", "scp") and target:
            message = "the script logs in to other machines as root"
            yield _warning(target.position, message, "`ltrl submit` asks Slurm for nodes and starts Ray on them")


def _kills(script: Script) -> Iterator[Diagnostic]:
    for command in script.commands:
        words = command.words
        inner = next((w for w in words if re.search(r"\b(pkill|killall)\b", w.text)), None)
        if inner:
            message = "the script ends processes by name, those of other jobs and users among them"
            yield _warning(inner.position, message, "a run of ltrl ends its own processes, by number")


def _strictness(script: Script) -> Iterator[Diagnostic]:
    settings = [c for c in script.commands if c.name == "set" and any("e" in w.text for w in c.words[1:2])]
    first = script.commands[0]
    if not settings:
        yield _warning(
            first.position, "the script goes on after a command that failed", "begin with `set -euo pipefail`"
        )
    elif settings[0] is not first:
        message = f"commands before line {settings[0].position.line} may fail and the script goes on"
        yield _warning(settings[0].position, message, "let `set -euo pipefail` be the first command")


def _misspelt(script: Script) -> Iterator[Diagnostic]:
    for assignment in script.assignments:
        name = assignment.name
        close = difflib.get_close_matches(name, _ENVIRONMENT, n=1, cutoff=0.85)
        if assignment.exported and close and name not in _ENVIRONMENT:
            yield _warning(assignment.position, f"nothing reads the variable `{name}`", f"did you mean `{close[0]}`?")


def _twice(uses: Sequence[Use], last: Mapping[str, Use]) -> Iterator[Diagnostic]:
    for use in uses:
        winner = last.get(use.name, use)
        if winner is use or winner.text == use.text:
            continue
        if is_decided(use, winner):
            message = f"`{use.text}` has no effect: line {winner.position.line} says `{winner.text}`"
            yield Diagnostic(
                Code.SCRIPT_DEFECT, message, use.position, "keep one of the two", "warning",
                (("given again here", winner.position),),
            )  # fmt: skip
        else:
            message = f"the script decides when it runs between `{use.text}` and `{winner.text}`; the second was taken"
            hint = "if the first is meant, set its field by hand"
            where = (("taken from here", winner.position),)
            yield Diagnostic(Code.NOT_IMPORTED, message, use.position, hint, "warning", where)


def _settings(last: Mapping[str, Use]) -> Iterator[Diagnostic]:
    if (use := last.get("--no-load-optim")) and "--load" in last:
        message = "a run that resumes from `--load` starts Adam's moments anew"
        yield _warning(use.position, message, "a resumed run of ltrl goes on where it was")
    tokens, context = _value(last, "--max-tokens-per-gpu"), _value(last, "--rollout-max-context-len")
    cp = _value(last, "--context-parallel-size") or 1
    if tokens and context and tokens * cp < context:
        message = (
            f"`--max-tokens-per-gpu` {tokens:g} x context parallel {cp:g} = {tokens * cp:g} tokens does not bound "
            f"memory: a response of {context:g} tokens makes a microbatch of its own"
        )
        yield _warning(last["--max-tokens-per-gpu"].position, message, "`ltrl plan` estimates the longest sequence")
    apart = [
        use
        for name in ("temperature", "top-p", "top-k")
        if (use := last.get(f"--eval-{name}"))
        and (f"--rollout-{name}" not in last or number(last[f"--rollout-{name}"].value) != number(use.value))
    ]
    if apart:
        said = " ".join(use.text for use in apart)
        message = f"evaluation samples with `{said}`, training otherwise: its figures are those of another policy"
        yield _warning(apart[0].position, message, "final figures come from `ltrl eval`, with settings of their own")
    if use := last.get("--no-check-for-nan-in-loss-and-grad"):
        yield _warning(use.position, "losses and gradients that are not numbers go unnoticed", "leave the flag out")


def _positions(last: Mapping[str, Use], card: ModelCard | None, length: int | None) -> Iterator[Diagnostic]:
    """Rotary embeddings and lengths, against the model's own config.json."""
    if card is None:
        return
    base = last.get("--rotary-base")
    if base and number(base.value) != card.rope_theta:
        message = f"`{base.text}`, but `{card.name}` was trained with a rotary base of {card.rope_theta:g}"
        yield _warning(base.position, message, "the model's own config.json decides in ltrl")
    scaled = {"--rope-scaling", "--use-rope-scaling", "--rope-scaling-factor"} & set(last)
    if base and card.rope_scaling and not scaled:
        kind = card.rope_scaling.get("rope_type", "scaled")
        message = (
            f"training uses plain rotary embeddings, but `{card.name}` has `rope_scaling` ({kind}), which the rollout "
            "engine reads: the two are different models"
        )
        yield _warning(base.position, message, "`model.overrides.rope_scaling` says the same to both")
    where = last.get("--rollout-max-context-len") or last.get("--rollout-max-response-len")
    if where and length and length > card.max_positions:
        message = f"{length} tokens, but `{card.name}` has {card.max_positions} positions"
        yield _warning(where.position, message, "extend it with `model.overrides`, for training and rollouts alike")


def _value(last: Mapping[str, Use], name: str) -> float | None:
    value = number(last[name].value) if name in last and last[name].words else None
    return value if isinstance(value, int | float) else None


def _words(script: Script) -> Iterator[Word]:
    seen: set[tuple[int, int, str]] = set()
    for word in (*(a.value for a in script.assignments), *(w for c in script.commands for w in c.words)):
        place = (word.position.line, word.position.column, word.position.source.name)
        if place not in seen:
            seen.add(place)
            yield word


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _warning(position: Position, message: str, hint: str) -> Diagnostic:
    return Diagnostic(Code.SCRIPT_DEFECT, message, position, hint, "warning")
