"""Where a person's files are: the project around a spec, cluster profiles, the last bundle."""

from __future__ import annotations

import os
from pathlib import Path

from ltrl.errors import Code, fail

__all__ = [
    "BUILT_IN",
    "cluster_file",
    "cluster_files",
    "config_dir",
    "last_bundle",
    "remember_bundle",
    "root",
    "write_cluster",
]

BUILT_IN = {
    "local": "kind: cluster\nexecutor: local\n",
    "mock": "kind: cluster\nexecutor: slurm\nslurm: {clients: mock}\nminutes: 60\n",
}
"""Cluster profiles that need no file."""

LAST = ".last"
"""File in the build directory that names the bundle compiled last."""


def root(start: Path) -> Path:
    """The project directory: the nearest one, from `start` upwards, that has a `specs` folder; else `start` itself.

    Relative paths in a spec are relative to it.
    """
    start = Path(os.path.abspath(start))
    return next((p for p in (start, *start.parents) if (p / "specs").is_dir()), start)


def config_dir() -> Path:
    """The user's own configuration directory; `LTRL_CONFIG_DIR` overrides it."""
    if chosen := os.environ.get("LTRL_CONFIG_DIR"):
        return Path(chosen)
    import platformdirs

    return platformdirs.user_config_path("ltrl")


def cluster_file(name: str, project: Path) -> Path | None:
    """The file of a cluster profile: a path, `specs/clusters/NAME.yaml` of the project, `clusters/NAME.yaml` of the
    user.

    None for one of `BUILT_IN` where no file defines it. Raises LtrlError for any other unknown name.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name)
    if (own := _profiles(project) / f"{name}.yaml").is_file():
        return own
    if (users := config_dir() / "clusters" / f"{name}.yaml").is_file():
        return users
    if name in BUILT_IN:
        return None
    import difflib

    known = sorted({*BUILT_IN, *cluster_files(project)})
    close = difflib.get_close_matches(name, known, n=1)
    listed = ", ".join(f"`{n}`" for n in known)
    hint = (f"did you mean `{close[0]}`? " if close else "") + f"profiles here: {listed}"
    raise fail(Code.UNKNOWN_CLUSTER, f"no cluster profile `{name}`", hint=hint)


def cluster_files(project: Path) -> dict[str, Path]:
    """The files of all cluster profiles by name, sorted; the project's go before the user's."""
    folders = (config_dir() / "clusters", _profiles(project))
    return dict(sorted({path.stem: path for folder in folders for path in folder.glob("*.yaml")}.items()))


def _profiles(project: Path) -> Path:
    return project / "specs" / "clusters"


def write_cluster(path: Path, text: str, *, replace: bool = False) -> None:
    """Writes a cluster profile; raises LtrlError when there is a file already or it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise fail(Code.UNWRITABLE, f"`{path}` exists already", hint="`--replace` overwrites it") from None
    except OSError as error:
        raise fail(Code.UNWRITABLE, f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from None


def remember_bundle(bundle: Path) -> None:
    """Makes a bundle the one that `ltrl submit` takes when none is named, if it lies in a `build` folder here."""
    if bundle.parent == Path.cwd() / "build":
        (bundle.parent / LAST).write_text(f"{bundle.name}\n", encoding="utf-8")


def last_bundle() -> Path:
    """The bundle compiled last in this directory; raises LtrlError when there is none."""
    build = Path.cwd() / "build"
    try:
        bundle = build / (build / LAST).read_text(encoding="utf-8").strip()
    except OSError:
        bundle = build
    if bundle == build or not bundle.is_dir():
        hint = "compile a spec first: `ltrl compile specs/quickstart.yaml`, or name one"
        raise fail(Code.NOT_A_BUNDLE, "no bundle has been compiled in this directory", hint=hint)
    return bundle
