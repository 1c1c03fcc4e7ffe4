"""Which fields of a spec each check looks at, found by letting it look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ltrl.backend import EngineCheck, Model
from ltrl_backends.nemo_rl.checks.rule import Check, Conf

if TYPE_CHECKING:
    from ltrl.resolve import Resolved
    from ltrl_backends.nemo_rl.config import Sizes

__all__ = ["reads"]


def reads(checks: tuple[Check, ...], resolved: Resolved, sizes: Sizes | None) -> Iterator[EngineCheck]:
    """Each check with the fields of this spec that it reads; a condition that does not apply reads little."""
    conf = _Noting(resolved, sizes)
    for check in checks:
        conf.seen.clear()
        for _ in check(conf):
            pass
        yield EngineCheck(f"nemo-rl:{check.id}", check.condition, check.source, frozenset(conf.seen))


class _Noting(Conf):
    """A configuration that notes which fields its readers ask for."""

    def __init__(self, resolved: Resolved, sizes: Sizes | None) -> None:
        super().__init__(resolved, sizes)
        self.seen: set[str] = set()
        self.spec = _Noted(self.spec, "", self.seen.add)  # type: ignore[assignment]
        self.cluster = _Noted(self.cluster, "cluster.", self.seen.add)  # type: ignore[assignment]
        self.options = _Noted(self.options, "engine.", self.seen.add)  # type: ignore[assignment]
        self.card = _Card(self.card, self.seen.add)  # type: ignore[assignment]

    def __getitem__(self, key: str) -> Any:
        setting = self._setting(key)
        if setting is not None and setting.field:
            self.seen.add(setting.field)
        return super().__getitem__(key)


class _Noted:
    def __init__(self, model: Model, path: str, note: Callable[[str], None]) -> None:
        self._model, self._path, self._note = model, path, note

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._model, name)
        if isinstance(value, Model):
            return _Noted(value, f"{self._path}{name}.", self._note)
        if name in type(self._model).model_fields:
            self._note(f"{self._path}{name}")
        return value


class _Card:
    """A model card: all that is known of it follows from the model's name."""

    def __init__(self, card: object, note: Callable[[str], None]) -> None:
        self._card, self._note = card, note

    def __getattr__(self, name: str) -> Any:
        self._note("model.base")
        return getattr(self._card, name)
