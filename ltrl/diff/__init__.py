"""What is different between two specs, bundles or runs, and what it means.

Three layers: the fields of the spec, what is compiled from them, and the numbers that follow. Pure: whoever wants a
comparison brings both sides (`ltrl.diff.pairs` reads them from disk and from Git).
"""

from __future__ import annotations

from ltrl.backend import Grade
from ltrl.diff.compiled import DATA, compiled
from ltrl.diff.fields import changes, effective, written
from ltrl.diff.figures import figures
from ltrl.diff.meanings import resume, rewards
from ltrl.diff.model import GRADES, Change, Diff, Figure, Kind, Side, Verdict

__all__ = ["GRADES", "Change", "Diff", "Figure", "Kind", "Side", "Verdict", "diff", "effective"]


def diff(old: Side | None, new: Side | None) -> Diff:
    """What is different between two sides of the same kind; one of them may not be there."""
    if old is None or new is None:
        return _only(old, new)
    found = changes(old, new)
    is_experiment = old.kind == "experiment"
    is_same = old.resolved.get("fingerprint") == new.resolved.get("fingerprint")
    made = compiled(old, new, found) if is_experiment else ()
    other_files = tuple(c.path for c in made if c.section == DATA and c.grade is Grade.NEW_RUN)
    return Diff(
        kind=old.kind,
        old=old.name,
        new=new.name,
        spec=found,
        compiled=made,
        figures=figures(old, new),
        resume=resume(found, is_same_experiment=is_same, other_files=other_files),
        rewards=rewards(found, effective(old), effective(new), other_files=other_files),
    )


def _only(old: Side | None, new: Side | None) -> Diff:
    side = new or old
    assert side is not None, "nothing to compare"
    words = (
        "it is new: no run of it exists"
        if old is None
        else "it is deleted: a run of it can still be resumed from its bundle"
    )
    verdict = Verdict("does not apply", words)
    fields = written(side, is_new=old is None)
    return Diff(
        kind=side.kind,
        old=old.name if old else None,
        new=new.name if new else None,
        spec=fields,
        compiled=(),
        figures=figures(old, new) if new else (),
        resume=verdict,
        rewards=Verdict("does not apply", "there is nothing to compare with"),
    )
