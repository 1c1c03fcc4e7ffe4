"""How fast a rubric is scored, next to a restatement of the reference matcher on the same texts.

    python benchmarks/scoring.py [--seconds 1] [--json FILE]

The peer is LongTraceRL's matcher restated: lower-case, keep ASCII words and
CJK ideographs, join with spaces, look for each entity's normalised form. It normalises the response once for all
entities. Scores of both are checked to be equal on every text before anything is timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ltrl.backend import create, load
from ltrl.scoring import ReferenceMatcher, Response, ScoreRequest, WordsMatcher, recall

_REFERENCE_TOKEN = re.compile(r"[a-zA-Z0-9_]+|[\u4e00-\u9fff]")


def naive_normalize(text: str) -> str:
    return " ".join(_REFERENCE_TOKEN.findall(text.lower()))


def naive_recall(text: str, entities: tuple[str, ...]) -> float:
    normalized = naive_normalize(text)
    return sum(naive_normalize(entity) in normalized for entity in entities) / len(entities)


# Common English words, commonest first; drawn by Zipf's law, which gives English letter frequencies.
_TEXT = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which
one you were all her she there would their we him been has when who will no more if out so up said what its about
than into them can only other time new some could these two may first then do any like my now over such our man me
even most made after also did many before must through years where much your way well down should because each just
those people too mr little state good very make world still see own work long here get both between life being
under three never know same last another while us off might great go come since against right came take used states
himself few house use during without again place american around however home small found mrs thought went say part
once general high upon school every does got united left number course war until always away something fact water
less public put thing almost hand enough far took head yet government system set told nothing night end why called
city day document answer question evidence therefore river capital founded member album song singer released record
company university theory mathematics engineer bridge music born located island county
"""
WORDS = _TEXT.split()
CUMULATIVE = list(itertools.accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))
PUNCTUATION = [", ", ". ", "; ", " (", ") ", " - ", ".\n\n", ": "]


def make_text(rng: random.Random, num_bytes: int, entities: tuple[str, ...], num_hits: int, foreign: float) -> str:
    """English-like text of about so many bytes with `num_hits` of the entities in it, each once, somewhere.

    `foreign` is the share of words with a character that is not ASCII; at 1 the text is Chinese.
    """
    words: list[str] = []
    size = 0
    while size < num_bytes:
        if foreign == 1:
            words.append(chr(0x4E00 + int(rng.paretovariate(0.6)) % 3000) + ("，" if rng.random() < 0.1 else ""))
            size += 3 * len(words[-1])
            continue
        (word,) = rng.choices(WORDS, cum_weights=CUMULATIVE)
        if rng.random() < foreign:
            word += rng.choice(["é", "ü", "’s", "—", "ń"])
        elif rng.random() < 0.1:
            word = word.capitalize()
        words.append(word + (rng.choice(PUNCTUATION) if rng.random() < 0.12 else " "))
        size += len(words[-1])
    for entity in entities[:num_hits]:
        words.insert(rng.randrange(len(words)), entity + " ")
    return "".join(words)


ENTITIES = (
    "Gulf of Tonkin Resolution",
    "Mark Mothersbaugh",
    "Poker Face",
    "the Solent",
    "Zaha Hadid",
    "countable additivity",
    "EC 6",
    "Oprah Winfrey",
)
KINDS_OF_ENTITIES = {
    "names": ENTITIES,
    "acronyms and numbers": ("NATO", "USA", "FBI", "U.N.", "1998", "5 million", "92.2 m", "AT&T"),
    "common words": ("The Who", "It", "Yes", "Us", "Time", "A Place", "New", "Some Like It"),
    "Chinese": ("北京大学", "長江", "上海", "香港特別行政區", "孫中山", "台北", "故宮", "黃河"),
}


SHARES = {0.0: "ASCII", 0.01: "1% foreign", 1.0: "Chinese"}


def best_seconds(*functions: Callable[[], object], seconds: float) -> list[float]:
    """The CPU time of each, the fastest tenth of as many runs as fit, which a busy machine disturbs least.

    They take turns, so that whatever slows the machine down slows all of them down.
    """
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds * len(functions)
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, taken in zip(functions, times, strict=True):
            start = time.thread_time()
            function()
            taken.append(time.thread_time() - start)
    return [statistics.quantiles(taken, n=10)[0] if len(taken) >= 10 else min(taken) for taken in times]


def compare(
    num_bytes: int, num_hits: int, foreign: float, seconds: float, entities: tuple[str, ...] = ENTITIES
) -> dict[str, float]:
    rng = random.Random(num_bytes + num_hits)
    texts = [make_text(rng, num_bytes, entities, num_hits, foreign) for _ in range(8)]
    reference, words = ReferenceMatcher(), WordsMatcher()
    for text in texts:
        expected = naive_recall(text, entities)
        assert recall(reference.hits(text, entities)) == expected, "the scores differ"
    times = best_seconds(
        lambda: [naive_recall(t, entities) for t in texts],
        lambda: [reference.hits(t, entities) for t in texts],
        lambda: [words.hits(t, entities) for t in texts],
        seconds=seconds,
    )
    return dict(zip(("peer", "reference", "words"), (taken / len(texts) for taken in times), strict=True))


def group(matcher: str, num_hits: int, foreign: float, seconds: float) -> float:
    """Seconds for a group of 8 responses of 128 kB, from requests to rewards, without a judge (eta 1)."""
    rng = random.Random(8)
    options = load("reward", "rubric").Options(backend="rubric", eta=1.0, scope="all", matcher=matcher)
    reward = create(options)
    requests = [
        ScoreRequest(
            "g",
            "q",
            "label",
            ENTITIES,
            Response("think", make_text(rng, 128_000, ENTITIES, num_hits, foreign), False, "completed"),
        )
        for _ in range(8)
    ]
    return best_seconds(lambda: reward.rewards(reward.score(requests)), seconds=seconds)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each figure")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    results: list[dict[str, object]] = []
    print("one response, 8 entities: microseconds                  peer | reference   ratio |     words   ratio")
    cases = [
        (num_bytes, num_hits, foreign, "names")
        for num_bytes in (12_000, 150_000)
        for num_hits in (8, 4, 0)
        for foreign in (0.0, 0.01)
    ]
    cases += [(150_000, 4, 1.0 if kind == "Chinese" else 0.0, kind) for kind in KINDS_OF_ENTITIES if kind != "names"]
    for num_bytes, num_hits, foreign, entities in cases:
        times = compare(num_bytes, num_hits, foreign, arguments.seconds, KINDS_OF_ENTITIES[entities])
        peer, ours, words = (1e6 * times[name] for name in ("peer", "reference", "words"))
        kind = f"{num_bytes // 1000} kB, {num_hits} {entities} there, {SHARES[foreign]}"
        print(f"{kind:<50} {peer:9.0f} | {ours:9.0f} {peer / ours:6.1f}x | {words:9.0f} {peer / words:6.1f}x")
        results.append({"kind": kind, "peer_us": peer, "reference_us": ours, "words_us": words})
    print("\na group of 8 responses of 128 kB, requests to rewards, no judge: milliseconds")
    for name in ("reference", "words"):
        for num_hits in (8, 4, 0):
            for foreign in (0.0, 0.01):
                milliseconds = 1e3 * group(name, num_hits, foreign, arguments.seconds)
                kind = f"{name}, {num_hits} of 8 named, {SHARES[foreign]}"
                print(f"{kind:<50} {milliseconds:9.2f}")
                results.append({"kind": f"group: {kind}", "ms": milliseconds})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
