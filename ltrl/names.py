"""What a name that nobody knows here was meant to be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

__all__ = ["close_to", "elsewhere", "instead"]

_IN_PROFILE = re.compile(r"`([\w.]+)` is in the cluster profile")


def close_to(name: object, known: Iterable[str]) -> str | None:
    """`did you mean …?` for the nearest of the known names, if one is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


def instead(name: str, names: Sequence[str], section: str, everywhere: Sequence[tuple[str, str]]) -> str:
    """What to write instead of an unknown field: a name of the same level, the level where the name belongs, our name
    for what other systems call so; else the names of the level.

    `everywhere` has (section, field) of every field.
    """
    foreign = elsewhere().get(name.lstrip("-").replace("-", "_"), "")
    fields = {f"{home}.{field}" if home else field for home, field in everywhere}
    if (ours := _IN_PROFILE.match(foreign)) and ours[1] in fields:  # this is the profile
        foreign = ours[1]
    homes = [home for home, field in everywhere if field == name and home != section]
    is_certain = homes or foreign.rpartition(".")[0] == section
    if close := difflib.get_close_matches(name, names, n=1, cutoff=0.85 if is_certain else 0.7):
        return f"did you mean `{close[0]}`?"
    if homes:
        belongs = f"`{name}` belongs {f'under `{homes[0]}`' if homes[0] else 'at the top level'}"
        return f"{belongs}; or: {foreign}" if _IN_PROFILE.match(foreign) else belongs
    if foreign:
        return foreign if " " in foreign else f"here this is `{foreign}`"
    if close := difflib.get_close_matches(name, [field for _, field in everywhere], n=1, cutoff=0.8):
        home = next(home for home, field in everywhere if field == close[0])
        return f"did you mean `{f'{home}.' if home else ''}{close[0]}`?"
    listed = ", ".join(f"`{n}`" for n in names)
    return f"fields here: {listed}" if listed else "this section has no fields"


@cache
def elsewhere() -> dict[str, str]:
    """What NeMo-RL, slime, Megatron, SGLang, vLLM, verl, TRL and Slurm call our fields: a dotted path by their name, or
    a sentence where no field is the same.
    """
    import yaml

    table = yaml.safe_load(resources.files("ltrl").joinpath("names.yaml").read_text(encoding="utf-8"))
    return {str(name): str(here) for name, here in table.items()}
