"""The image that a job runs in and what it sees of the machine, with where each mount was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ltrl.spec import Container

__all__ = ["Mount", "digest", "manifest", "mounts", "of_stage"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the machine inside the container."""

    source: str
    target: str
    options: str
    origin: str
    """`file:line` of the profile, or why it is always there."""


def of_stage(container: Container, image: str | None) -> Container:
    """The container of a stage that may name an image of its own."""
    return container.model_copy(update={"image": image}) if image else container


def digest(container: Container) -> str | None:
    """The content of the image, where its name states it; a tag may stand for another image tomorrow."""
    found = re.search(r"@(sha256:[0-9a-f]{64})$", container.image)
    return found.group(1) if found else None


def manifest(container: Container) -> dict[str, str | None]:
    """What a bundle's manifest says of it."""
    return {"runtime": container.runtime, "image": container.image, "digest": digest(container)}


def mounts(container: Container, origins: Mapping[str, str]) -> tuple[Mount, ...]:
    """Everything that is mounted, in the order of the command line; `origins` are those of the resolved spec."""
    always = [
        Mount("the run directory", "the same path", "", "always"),
        Mount("the project directory", "the same path", "", "always"),
    ]
    asked = []
    for i, text in enumerate(container.mounts):
        source, target, *options = text.split(":")
        place = "cluster.container.mounts"
        asked.append(
            Mount(source, target, ":".join(options), origins.get(f"{place}.{i}", origins.get(place, "default")))
        )
    return (*always, *asked)
