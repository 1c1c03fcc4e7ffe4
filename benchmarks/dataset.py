"""Building data sets: index and search rates, assembly against a loop without a cache, memory and time at full scale.

    python benchmarks/dataset.py [--records 60] [--corpus-gb 5 --scale-records 2815]

The first table is FOLDOC (Debian's `dict-foldoc`). With `--corpus-gb` a corpus of that size is made, indexed and built
from, in a process of its own whose memory is measured; it takes the same again in disk for its index, and an hour.
Rates are of CPU time, so that a busy machine does not change them; what is compared is done in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import Tokenizer

from ltrl.backend import create
from ltrl.dataset.assemble import Assembler
from ltrl.dataset.build import build
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.kinds import Counter
from ltrl.dataset.lengths import Lengths
from ltrl.dataset.markup import body
from ltrl.dataset.model import Dataset
from ltrl.dataset.page import Page
from ltrl.dataset.progress import Progress
from ltrl.dataset.question import Question
from ltrl.samples import Sample
from ltrl.trajectories import Trajectory

FOLDOC = Path("/usr/share/dictd/foldoc.index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40, help="records of 128K tokens from FOLDOC")
    parser.add_argument("--corpus-gb", type=float, default=0.0, help="size of the corpus that is made; none by default")
    parser.add_argument("--scale-records", type=int, default=2815, help="records built from that corpus")
    parser.add_argument("--folder", type=Path, help="where it is made, and kept; by default a temporary directory")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        built_in_a_process_of_its_own(arguments.child, arguments.folder)
        return
    if arguments.corpus_gb:
        with tempfile.TemporaryDirectory() as temporary:
            at_scale(arguments.folder or Path(temporary), arguments.corpus_gb, arguments.scale_records)
        return
    with tempfile.TemporaryDirectory() as temporary:
        on_foldoc(Path(temporary), arguments.records)


def on_foldoc(folder: Path, records: int) -> None:
    dataset = parsed(
        {
            "kind": "dataset",
            "name": "foldoc",
            "records": records,
            "tokens": "128k",
            "corpus": {"backend": "dictd", "index": str(FOLDOC)},
            "agent": {"backend": "scripted", "results": 150},
            "tokenizer": "corpus-bpe",
        }
    )
    quiet = Progress(is_quiet=True)
    start = time.process_time()
    from ltrl.dataset.build import build_corpus

    corpus = build_corpus(dataset, project=folder, progress=quiet)
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in corpus.texts())
    print("| what | rate |\n|---|---|")
    print(f"| index of FOLDOC: {corpus.num_pages} pages, {size / 1e6:.1f} MB | {size / 1e6 / seconds:.1f} MB/s |")
    built = build(dataset, project=folder, workers=2, progress=quiet)
    questions = {q["id"]: Question.from_json(q) for q in lines(built.path / "questions.jsonl")}
    trajectories = [Trajectory.from_json(t) for t in lines(built.path / "trajectories.jsonl")]
    queries = [step.query for t in trajectories for step in t.steps if hasattr(step, "query")][:500]
    seconds = cpu(lambda: [corpus.search(query, 150) for query in queries])
    print(f"| BM25, 150 results of a clue or a title | {len(queries) / seconds:.0f} queries/s |")
    counter: Counter = create(dataset.tokenizer).counter(corpus, built.path.parent / "corpora")
    first_seen(corpus, counter, folder)
    both = [(questions[t.question_id], t) for t in trajectories]
    assembly(dataset, corpus, counter, both, built.path)


def first_seen(corpus: Corpus, counter: Counter, folder: Path) -> None:
    """Counting documents for the first time, against encoding the same texts and nothing else."""
    pages = [corpus.page(n) for n in range(1, corpus.num_pages + 1)]
    size = sum(len(page.text) for page in pages) / 1e6
    raw = ours = 0.0
    for turn in range(4):  # in turn, so that both see the same machine; the first is a warm-up
        texts = [body(page, 20_000) for page in pages]
        took = cpu(lambda texts=texts: [counter.count(texts[i : i + 256]) for i in range(0, len(texts), 256)])
        lengths = Lengths(counter, corpus.num_pages, folder, corpus=f"turn {turn}", max_characters=20_000)
        took_ours = cpu(lambda lengths=lengths: [lengths.of(pages[i : i + 256]) for i in range(0, len(pages), 256)])
        raw, ours = (raw + took, ours + took_ours) if turn else (0.0, 0.0)
    print(f"| documents seen first: encode_batch of `tokenizers` | {3 * size / raw:.2f} MB/s |")
    print(f"| the same through the cache | {3 * size / ours:.2f} MB/s, {raw / ours:.2f} of it |")


def assembly(
    dataset: Dataset, corpus: Corpus, counter: Counter, records: Sequence[tuple[Question, Trajectory]], folder: Path
) -> None:
    """Records a second from the same trajectories: with the cache; with a loop that tokenizes what it assembles."""
    lengths = Lengths(counter, corpus.num_pages, folder.parent / "corpora", corpus=corpus.id, max_characters=20_000)
    cached = Assembler(dataset, corpus, lengths, create(dataset.distractors))
    straightforward = Assembler(dataset, corpus, Uncached(counter, corpus, folder), create(dataset.distractors))
    [path] = (folder.parent / "corpora").glob("*.bpe-*.json")
    tokenizer = Tokenizer.from_file(str(path))
    ours = once = loop = 0.0
    for number, (question, trajectory) in enumerate(records, 1):

        def one(assembler: Assembler, question: Question = question, trajectory: Trajectory = trajectory) -> Sample:
            return assembler.assemble(1, question, trajectory, {}, 1).sample

        def whole(question: Question = question, trajectory: Trajectory = trajectory) -> None:
            sample = straightforward.assemble(1, question, trajectory, {}, 1).sample
            assert sample.provenance is not None
            assert len(tokenizer.encode(sample.messages[0][1]).ids) > 0

        if number > 2:
            ours += cpu(lambda: json.dumps(one(cached).to_json(), ensure_ascii=False))
            sample = one(cached)
            once += cpu(lambda sample=sample: tokenizer.encode(sample.messages[0][1]).ids)
            loop += cpu(whole)
        else:
            one(cached)
    count = len(records) - 2
    print(f"| records of 128K tokens, every document counted before | {count / ours:.1f} a second |")
    once += ours  # it cannot do less than this beside tokenizing
    print(f"| a loop that tokenizes each context once, and guesses when it is full | {count / once:.1f} a second |")
    print(f"| a loop that tokenizes each document, to stop in time, and the context | {count / loop:.1f} a second |")
    print(f"| the first is faster | {once / ours:.1f} and {loop / ours:.1f} times |")


class Uncached(Lengths):
    """Tokenizes every document each time, one after the other."""

    def __init__(self, counter: Counter, corpus: Corpus, folder: Path) -> None:
        super().__init__(counter, corpus.num_pages, folder, corpus="uncached", max_characters=20_000)

    def of(self, pages: Sequence[Page]) -> list[int]:
        return [self.counter.count([body(page, self.max_characters)])[0] for page in pages]


def at_scale(folder: Path, corpus_gb: float, records: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corpus.jsonl"
    if not path.exists():
        make_corpus(path, corpus_gb)
    size = path.stat().st_size
    print(f"corpus: {size / 1e9:.2f} GB", flush=True)
    print("| step | records | seconds of CPU | seconds | most memory, MB |\n|---|---|---|---|---|", flush=True)
    steps = [("index", 0), *(("build", n) for n in (records // 4, records // 2, records))]
    for name, count in steps:
        shutil.rmtree(folder / "data" / "scale", ignore_errors=True)
        for counted in (folder / "data" / "corpora").glob("*.lengths"):  # each build counts for itself
            counted.unlink()
        start = time.monotonic()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, __file__, "--folder", str(folder), "--child", json.dumps([name, count])]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        wall = time.monotonic() - start
        print(f"| {name} | {count or '-'} | {seconds:.0f} | {wall:.0f} | {found['memory_mb']:.0f} |", flush=True)


def built_in_a_process_of_its_own(what: str, folder: Path) -> None:
    os.environ["LTRL_PROJECT_DIR"] = str(folder)
    name, count = json.loads(what)
    dataset = parsed(
        {
            "kind": "dataset",
            "name": "scale",
            "records": max(count, 1),
            "tokens": "128k",
            "corpus": {"backend": "jsonl", "path": "corpus.jsonl"},
            "agent": {"backend": "scripted", "results": 40, "follows": False},
            "tokenizer": "corpus-bpe",
        }
    )
    if name == "index":
        from ltrl.dataset.build import build_corpus

        create(dataset.tokenizer).counter(
            build_corpus(dataset, project=folder, progress=Progress()), folder / "data" / "corpora"
        )
    else:
        build(dataset, project=folder, workers=2, progress=Progress())
    print(json.dumps({"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def make_corpus(path: Path, corpus_gb: float) -> None:
    """Pages of some 4.5 KB: sentences of words by Zipf's law, none in two pages, with ten links each."""
    random = Random(1)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(60_000)]
    weights = [*accumulate(1 / (rank + 10) for rank in range(len(words)))]
    pool = [" ".join(random.choices(words, cum_weights=weights, k=random.randint(9, 22))) for _ in range(40_000)]
    num_pages = int(corpus_gb * 1e9 / 4600)

    def title(number: int) -> str:
        return f"{words[number * 7919 % 59_999].title()} {words[number % 50_021].title()} {number}"

    with path.with_suffix(".part").open("w") as file:
        for number in range(num_pages):
            links = [title(random.randrange(num_pages)) for _ in range(10)]
            rare = [" ".join(random.choices(words, k=12)) for _ in range(3)]
            told = [f"{text.capitalize()} {number}." for text in (*rare, *random.sample(pool, 34))]
            text = f"{' '.join(told[:5])} See {', '.join(links)}. {' '.join(told[5:])}"
            page = {"id": str(number), "title": title(number), "text": text, "links": links}
            file.write(json.dumps(page) + "\n")
    path.with_suffix(".part").replace(path)


def parsed(spec: dict[str, Any]) -> Dataset:
    return Dataset.model_validate_json(json.dumps(spec))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
