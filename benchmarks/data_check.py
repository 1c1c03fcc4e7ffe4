"""How fast records of 128K tokens are checked and counted, against `json.loads` of every line alone.

    python benchmarks/data_check.py [--megabytes 1200] [--jobs 2] [--estimates]

CPU time is that of all processes; memory is the largest of any one of them. The published file has 1,200 MB; counting
its tokens takes minutes of CPU, and `--estimates` leaves that out.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ltrl.data.check import check
from ltrl.data.facts import Looks
from ltrl.data.scan import scan
from ltrl.data.stats import Stats
from ltrl.data.tokens import Counter
from ltrl.samples import Passage, Sample

WORDS = [f"{a}{b}{c}" for a in ("ba", "mo", "ri", "sta", "the") for b in ("n", "rl", "d", "v") for c in "aeiou"]
ENTITIES = ("Zaha Hadid", "MAXXI", "Gulf of Tonkin", "USS Maddox", "the Solent", "Mark Mothersbaugh", "EC 6", "92.2 m")


def write_records(path: Path, megabytes: int) -> None:
    """A file of records as `ltrl data build` makes them: 130 documents, the gold ones name the entities."""
    draw = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1_000_000:
            number = draw.randrange(10**9)
            passages = []
            for i in range(130):
                words = draw.choices(WORDS, k=draw.randint(300, 900))
                if i < len(ENTITIES) or draw.random() < 0.4:
                    words.insert(50, ENTITIES[i % len(ENTITIES)])
                tier = "gold" if i < len(ENTITIES) else "tier-1" if i < 40 else "tier-2"
                passages.append(Passage(f"d{i}", " ".join(words), tier, f"Page {i}"))
            draw.shuffle(passages)
            question = f"Begin with a building of {number}, move to {' '.join(draw.choices(WORDS, k=40))}, and name it?"
            documents = "".join(f'<document id="{i}">\n{p.text}\n</document>\n' for i, p in enumerate(passages))
            prompt = f"Answer only from the documents.\n\n{documents}\n{question}"
            made = Sample(str(number), (("user", prompt),), question, "nucleus", ENTITIES, passages=tuple(passages))
            file.write(json.dumps(made.to_json()) + "\n")


def write_tokenizer(path: Path, data: Path) -> Path:
    """A byte-level BPE as large models have it, trained on a part of the records."""
    from tokenizers import ByteLevelBPETokenizer

    with data.open(encoding="utf-8") as file:
        texts = [json.loads(file.readline())["input_messages"][0]["content"] for _ in range(4)]
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(texts, vocab_size=4000, show_progress=False)
    made.save(str(path))
    return path


def parse_all(path: Path) -> None:
    with path.open("rb") as file:
        for line in file:
            json.loads(line)


def count_all(path: Path, looks: Looks, jobs: int) -> None:
    figures = Stats(str(path), is_exact=False)
    for facts in scan(path, looks, jobs=jobs):
        figures.add(facts)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of CPU."""

    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    clock, used = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - clock, cpu() - used


def main() -> int:
    asked = argparse.ArgumentParser()
    asked.add_argument("--megabytes", type=int, default=100)
    asked.add_argument("--jobs", type=int, default=2)
    asked.add_argument("--estimates", action="store_true", help="count no tokens")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "data.jsonl")
        write_records(path, options.megabytes)
        size = path.stat().st_size / 1e6
        copy = Path(directory, "copy.jsonl")
        copy.hardlink_to(path)
        estimate, jobs = Counter(None), options.jobs
        cases: dict[str, Callable[[], object]] = {
            "`json.loads` of every line": lambda: parse_all(path),
            "`data stats`": lambda: count_all(path, Looks(estimate, rubric=False, overlap=True), 1),
            "`data check`": lambda: check([path], Looks(estimate)),
            f"`data check`, {jobs} processes": lambda: check([path], Looks(estimate), jobs=jobs),
            "`data check` against a copy of itself": lambda: check([path], Looks(estimate), evaluation={"copy": copy}),
        }
        if not options.estimates:
            exact = Counter(write_tokenizer(Path(directory, "tokenizer.json"), path))
            cases["`data check`, tokens counted"] = lambda: check([path], Looks(exact))
            cases[f"`data check`, tokens counted, {jobs} processes"] = lambda: check([path], Looks(exact), jobs=jobs)
        print(f"{size:.0f} MB of records of 128K tokens\n")
        print("| work | MB a second | CPU s a GB | CPU over the floor |\n|---|---|---|---|", flush=True)
        floor = 0.0
        for name, work in cases.items():
            seconds, used = measured(work)
            floor = floor or used
            print(f"| {name} | {size / seconds:.0f} | {1000 * used / size:.1f} | {used / floor:.1f}x |", flush=True)
        peak = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(f"\nlargest process: {peak / 1024:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
