"""The container of a job, for `ltrl plan` and for a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ltrl.container import digest, mounts
from ltrl.spec import Container

__all__ = ["container_rows"]


def container_rows(container: Container | None, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Rows of a table of facts; none without a container."""
    if container is None:
        return
    pinned = digest(container)
    yield "container", f"{container.runtime}, {container.image}" + ("" if pinned else "; no digest in its name")
    for i, mount in enumerate(mounts(container, origins)):
        options = f" ({mount.options})" if mount.options else ""
        yield "mounts" if i == 0 else "", f"{mount.source} at {mount.target}{options}: {mount.origin}"
