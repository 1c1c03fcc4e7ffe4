"""No test reads or writes what belongs to the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STATE", "CONFIG"):
            patch.setenv(f"LTRL_{name}_DIR", str(tmp_path_factory.mktemp(name.lower())))
        for name in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield
