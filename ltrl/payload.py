"""The payload of a job: ltrl and the plugins that a spec uses, in one archive that Python imports from.

A job in a container, or on machines that nobody installs ltrl on, has this archive on its PYTHONPATH and nothing else
of ours. Beside the modules it holds what `importlib.metadata` needs to find the backends.
"""

from __future__ import annotations

import importlib.util
import io
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from ltrl.errors import Code, Diagnostic
from ltrl.plan import PAYLOAD, Artifact

__all__ = ["pack"]

OWN = "ltrl"
OWN_PACKAGES = ("ltrl", "ltrl_backends", "ltrl_templates")
"""Fixed: an editable installation does not list them."""
COMPILED = (".so", ".pyd", ".dylib")


def pack(distributions: Iterable[str], *, provided: Collection[str]) -> tuple[Artifact, tuple[Diagnostic, ...]]:
    """The archive of ltrl and other distributions with what those require; and warnings about what cannot travel.

    `provided` are the distributions that the job has already, by normalized name. Nothing of them is packed: a second
    copy would take their place. Equal sources give equal bytes, whether installed editable or from a wheel.
    """
    files = {name: path for package in OWN_PACKAGES for name, path in _package(package)}
    texts = _metadata(metadata.distribution(OWN))
    warnings = []
    for distribution in _closure(distributions, set(provided) | {OWN}):
        modules = dict(_files(distribution))
        if compiled := sorted(name for name in modules if name.endswith(COMPILED)):
            message = f"`{distribution.name}` {distribution.version} does not travel with the job: `{compiled[0]}` is "
            hint = "the image of the cluster profile must have it; pure Python travels in the bundle"
            found = Diagnostic(Code.PAYLOAD, f"{message}compiled for this machine", None, hint, severity="warning")
            warnings.append(found)
            continue
        files |= modules
        texts |= _metadata(distribution)
    contents = texts | {name: path.read_bytes() for name, path in files.items()}
    return Artifact(PAYLOAD, _archive(contents)), tuple(warnings)


def _archive(contents: dict[str, bytes]) -> bytes:
    """A zip file; not compressed, because what `deflate` gives depends on the machine's zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, wherever this runs
            archive.writestr(entry, contents[name])
    return buffer.getvalue()


def _closure(names: Iterable[str], left_out: set[str]) -> list[metadata.Distribution]:
    """Distributions and, of what they require, all that is installed here and not left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = _normalized(waiting.pop())
        if name in left_out or name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # its marker says that this Python needs none; pip checks the others
            continue
        waiting += [required for line in found[name].requires or () if (required := _required(line))]
    return [found[name] for name in sorted(found)]


def _required(line: str) -> str | None:
    """The distribution that a `Requires-Dist` names; None for one of an extra."""
    requirement, _, marker = line.partition(";")
    name = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return name[0] if name and not re.search(r"\bextra\b", marker) else None


def _metadata(distribution: metadata.Distribution) -> dict[str, bytes]:
    """Name, version and entry points; the rest of an installation's own files differs between ways to install it."""
    name, version = distribution.name, distribution.version
    folder = f"{_normalized(name).replace('-', '_')}-{version}.dist-info"
    groups: dict[str, list[str]] = {}
    for entry in distribution.entry_points:
        groups.setdefault(entry.group, []).append(f"{entry.name} = {entry.value}")
    sections = [
        f"[{group}]\n" + "".join(f"{line}\n" for line in sorted(set(groups[group]))) for group in sorted(groups)
    ]
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{folder}/entry_points.txt": "\n".join(sections).encode(),
    }


def _files(distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) of a distribution's modules and data.

    As its installation lists them; an editable one lists none, and its packages are looked up by their names.
    """
    listed = [file for file in distribution.files or () if _travels(PurePosixPath(file))]
    if any(file.suffix == ".py" for file in listed):
        yield from ((str(PurePosixPath(file)), Path(str(file.locate()))) for file in listed)
        return
    names = {entry.module.partition(".")[0] for entry in distribution.entry_points}
    names |= set((distribution.read_text("top_level.txt") or "").split())
    for name in sorted(names):
        yield from _package(name)


def _travels(file: PurePosixPath) -> bool:
    """Whether a listed file is part of a module: no script, no metadata, no helper of an editable installation."""
    first = file.parts[0]
    is_ours = first not in ("..", "__pycache__") and not first.startswith(("__editable__", "_editable_impl_"))
    in_package = len(file.parts) > 1 and not first.endswith((".dist-info", ".egg-info", ".data"))
    return is_ours and (in_package or file.suffix in (".py", *COMPILED)) and _is_source(file)


def _package(name: str) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) of everything in an importable package, or of a module that is one file."""
    found = importlib.util.find_spec(name)
    for folder in found.submodule_search_locations or () if found else ():
        for path in Path(folder).rglob("*"):
            inside = PurePosixPath(name, path.relative_to(folder).as_posix())
            if _is_source(inside) and path.is_file():
                yield str(inside), path
    if found and found.submodule_search_locations is None and found.origin:
        yield Path(found.origin).name, Path(found.origin)


def _is_source(file: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return not hidden and "__pycache__" not in file.parts and file.suffix != ".pyc"


def _normalized(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
