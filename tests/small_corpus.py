"""A corpus of made-up pages that link to each other, small enough to build from in a second."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

SYLLABLES = ("ba", "do", "fe", "gi", "ko", "la", "mu", "ne", "po", "ri", "sa", "tu", "vo", "we", "zi")
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES[:6] for c in SYLLABLES[:5]]


def pages(num_pages: int = 240, *, seed: int = 7) -> list[dict[str, Any]]:
    """Pages with two telling sentences each, and links to eight others."""
    random = Random(seed)
    titles = [f"{WORDS[i].title()} {WORDS[-1 - i].title()}" for i in range(num_pages)]
    made = []
    for i, title in enumerate(titles):
        others = random.sample([t for t in titles if t != title], 8)
        told = [" ".join(random.sample(WORDS, 14)) for _ in range(3)]
        text = f"{title} is a {told[0]} that {told[1]}. It stands beside {', '.join(others)}. It has {told[2]} {i}."
        made.append({"id": f"p{i}", "title": title, "text": text, "links": others, "aliases": [f"{title} the {i}th"]})
    return made


def write_pages(path: Path, found: list[dict[str, Any]]) -> Path:
    """The pages as a `jsonl` corpus."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(page) + "\n" for page in found))
    return path


SPEC = """\
kind: dataset
name: small
records: {records}
tokens: 2k
corpus: {{backend: jsonl, path: corpus.jsonl, licence: CC0-1.0}}
walk: {{backend: random, hops: 3, min_links: 2, min_characters: 20}}
agent: {{backend: scripted, results: 40}}
tokenizer: words
"""


def project(folder: Path, *, records: int = 12) -> Path:
    """A project with a corpus and a spec; the path of the spec."""
    write_pages(folder / "corpus.jsonl", pages())
    spec = folder / "specs" / "small.yaml"
    spec.parent.mkdir(parents=True, exist_ok=True)
    spec.write_text(SPEC.format(records=records))
    return spec
