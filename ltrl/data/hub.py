"""Data files from the Hugging Face hub, each pinned to a commit, into the hub's own cache or a directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ltrl.data import digest
from ltrl.errors import Code, fail

__all__ = ["Fetched", "cached", "fetch"]

_CLIENTS = ("httpx", "httpx2", "requests")
"""What the releases of huggingface_hub speak HTTP with; their errors have nothing else in common."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is here now."""

    repo: str
    file: str
    commit: str
    """The revision that it belongs to, for a spec's `revision`."""
    path: Path
    sha256: str
    bytes: int


def cached(repo: str, file: str, commit: str) -> Path | None:
    """Where a file of that commit is in the hub's cache; None where it is not. Asks nobody."""
    found = _hub().try_to_load_from_cache(repo, file, revision=commit, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def fetch(repo: str, file: str, *, revision: str | None = None, into: Path | None = None) -> Fetched:
    """Fetches a file of a data set, by default of its newest revision, and notes its hash beside it.

    What an earlier, interrupted fetch has loaded is not loaded again. Raises LtrlError when the hub cannot be reached
    or has no such file, and when what came is not what the hub says it is.
    """
    hub = _hub()
    what = f"`{file}` of `{repo}`" + (f" at `{revision}`" if revision else "")
    try:
        commit = str(hub.HfApi().dataset_info(repo, revision=revision).sha)
        found = hub.hf_hub_download(repo, file, revision=commit, repo_type="dataset", local_dir=into)
    except hub.errors.GatedRepoError:
        hint = "ask for access on its page, then `hf auth login`"
        raise fail(Code.UNREADABLE, f"cannot fetch {what}: the data set wants to know who you are", hint=hint) from None
    except hub.errors.RepositoryNotFoundError:
        hint = "a private one needs `hf auth login`"
        raise fail(Code.UNREADABLE, f"cannot fetch {what}: there is no such data set", hint=hint) from None
    except hub.errors.RevisionNotFoundError:
        raise fail(Code.UNREADABLE, f"cannot fetch {what}: there is no such revision") from None
    except hub.errors.RemoteEntryNotFoundError:
        raise fail(Code.UNREADABLE, f"cannot fetch {what}: there is no such file") from None
    except hub.errors.OfflineModeIsEnabled:
        raise fail(
            Code.UNREADABLE, f"cannot fetch {what}: `HF_HUB_OFFLINE` forbids it", hint="unset it, and run again"
        ) from None
    except Exception as error:
        if not isinstance(error, OSError | ValueError | hub.errors.HfHubHTTPError) and _library(error) not in _CLIENTS:
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        hint = "is there a network? `HF_ENDPOINT` names a mirror"
        raise fail(Code.UNREADABLE, f"cannot fetch {what}: {said}", hint=hint) from None
    path = Path(found)
    measured = digest.measure(path)
    promised = path.resolve().name  # the cache calls a large file by its hash
    if into is None and _SHA256.fullmatch(promised) and promised != measured.sha256:
        path.resolve().unlink()
        message = f"{what} came damaged: its SHA-256 is {measured.sha256[:12]}…, the hub says {promised[:12]}…"
        raise fail(Code.BAD_DATA, message, hint="it was taken away again: fetch it once more")
    digest.record(path, measured)
    return Fetched(repo, file, commit, path, measured.sha256, measured.bytes)


def _library(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _hub() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        hint = "`pip install 'ltrl[data]'`"
        raise fail(Code.MISSING_EXTRA, "the Hugging Face hub needs the package `huggingface_hub`", hint=hint) from None
    module: ModuleType = huggingface_hub
    return module
