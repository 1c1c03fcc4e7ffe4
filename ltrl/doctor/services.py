"""Judges that are asked over HTTP, and keys: whether they are there, never what they are."""

from __future__ import annotations

import json
import netrc
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ltrl.doctor.finding import Finding, Mark, found_or
from ltrl.doctor.wanted import Endpoint, Wanted
from ltrl.errors import LtrlError
from ltrl.references import reveal

__all__ = ["judges", "tokens"]

PATIENCE_S = 5


def tokens(wanted: Wanted) -> Iterator[Finding]:
    """Keys in the environment or in the files where their programs keep them."""
    hub = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    kept = {
        "HF_TOKEN": Path(hub).expanduser() / "token",
        "WANDB_API_KEY": Path(os.environ.get("NETRC") or "~/.netrc").expanduser(),
        "MLFLOW_TRACKING_TOKEN": None,
    }
    for name in sorted({*kept, *wanted.environment}):
        needed, file = wanted.environment.get(name, ""), kept.get(name)
        # an empty one is none: what asks for it refuses it
        has_it = bool(os.environ.get(name)) or (not needed and file is not None and _is_in(file))
        where = "set" if os.environ.get(name) else f"in {file}" if has_it else "not set"
        fix = "" if has_it or not needed else f"export {name}=…"
        yield Finding("tokens", name, found_or(has_it, needed), where, needed, fix)


def _is_in(file: Path) -> bool:
    if file.name == "token":
        return file.is_file()
    try:
        return "api.wandb.ai" in netrc.netrc(file).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def judges(wanted: Wanted) -> Iterator[Finding]:
    """Whether each judge answers, takes the key and has the model."""
    for endpoint in wanted.endpoints:
        is_ok, found, fix = _ask(endpoint)
        # a job's nodes may reach what this machine does not
        mark: Mark = "ok" if is_ok else "missing" if wanted.trains_here else "unsure"
        yield Finding("judge", endpoint.base_url, mark, found, "`reward.judge`", fix)


def _ask(endpoint: Endpoint) -> tuple[bool, str, str]:
    """Whether it can be used, what was found, and what to do."""
    url = f"{endpoint.base_url.rstrip('/')}/models"
    fix = f"curl {url}"
    headers = {}
    if endpoint.api_key:
        try:
            headers["authorization"] = f"Bearer {reveal(endpoint.api_key, what='the key')}"
        except LtrlError as error:
            return False, f"not asked: {error.diagnostics[0].message}", "see tokens"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_S) as answer:
            listed = {str(one.get("id")) for one in json.loads(answer.read(2**20))["data"]}
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return False, f"it refuses the key: HTTP {error.code}", f"see `reward.judge.api_key`; {fix}"
        return True, f"it answers, and lists no models: HTTP {error.code}", ""
    except (OSError, urllib.error.URLError) as error:
        return (
            False,
            f"no answer: {getattr(error, 'reason', error)}",
            f"start it, or see `reward.judge.base_url`; {fix}",
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return True, "it answers, and lists no models", ""
    if endpoint.model and endpoint.model not in listed:
        few = ", ".join(sorted(listed)[:3])
        return False, f"it has no model `{endpoint.model}`, but {few}", "see `reward.judge.model`"
    return True, f"it answers and has `{endpoint.model}`", ""
