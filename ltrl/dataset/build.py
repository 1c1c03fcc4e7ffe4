"""Builds a data set: every stage in turn, for as many candidates as it takes, then the file of records.

Candidates are tried in rounds, in the order of their numbers, until enough have passed every stage; a record depends on
the spec and its candidate's number alone. Each stage keeps a journal in `.build`; the files that people read appear
when they are complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ltrl import __version__
from ltrl.backend import Grade, Model, backends, create, named
from ltrl.dataset.assemble import Assembler
from ltrl.dataset.card import PLOTS, Figures, card_markdown
from ltrl.dataset.chat import ChatOptions
from ltrl.dataset.closed_book import ClosedBook, right_answers
from ltrl.dataset.corpus import Corpus
from ltrl.dataset.index import index, locked, writing
from ltrl.dataset.kinds import Rejected
from ltrl.dataset.lengths import Lengths
from ltrl.dataset.model import Dataset
from ltrl.dataset.page import Page
from ltrl.dataset.plots import card_svg
from ltrl.dataset.progress import Progress
from ltrl.dataset.question import Duplicates, Question, accept, given
from ltrl.dataset.search import Attempt, attempt_number, candidate_and_place, outside
from ltrl.dataset.stage import Stage, key_of, random_of, seed_of
from ltrl.dataset.walk import walk
from ltrl.errors import Code, LtrlError, fail
from ltrl.trajectories import Trajectory
from ltrl.writing import write

__all__ = ["Built", "build", "build_corpus", "home"]

STAGES = ("walks", "questions", "closed-book", "trajectories", "samples")
"""Stages with one result for each candidate; before the trajectories are the attempts, several for each."""
CARD = "card.json"
SMALLEST_ROUND = 8
"""Candidates of a round, at least: with fewer, the last records would be waited for one by one."""
_CLOSED_BOOK = ("closed_book", "closed_book_tries", "judge")
"""What of a question's section does not decide how it is written."""


@dataclass(frozen=True, slots=True)
class Built:
    """A complete data set."""

    path: Path
    """Its directory."""
    card: Mapping[str, Any]
    is_new: bool
    """Whether something had to be done."""


def home(dataset: Dataset, project: Path) -> Path:
    """The directory of a data set."""
    return project / (dataset.output or f"data/{dataset.name}")


def build_corpus(dataset: Dataset, *, project: Path, progress: Progress) -> Corpus:
    """The corpus of a data set, made now if it is not there."""
    return index(dataset.corpus, home(dataset, project).parent / "corpora", progress)


def build(dataset: Dataset, *, project: Path, workers: int, progress: Progress) -> Built:
    """The data set of a spec, complete, in its directory.

    What an earlier build of it has done, killed or not, is not done again. Raises LtrlError when the corpus is broken,
    an endpoint does not answer, or the candidates do not yield as many records as are asked for.
    """
    corpus = build_corpus(dataset, project=project, progress=progress)
    folder = home(dataset, project)
    with closing(corpus), writing(folder), writing(folder.parent / "corpora"), locked(folder / ".lock", f"`{folder}`"):
        return _Build(dataset, corpus, folder, workers, progress).run()


class _Build:
    """One build: its backends, and what each stage has done."""

    def __init__(self, dataset: Dataset, corpus: Corpus, folder: Path, workers: int, progress: Progress) -> None:
        self.dataset = dataset
        self.corpus = corpus
        self.folder = folder
        self.workers = workers
        self.progress = progress
        self.walker = create(dataset.walk)
        self.writer = create(dataset.question)
        model = dataset.question.closed_book or getattr(self.writer, "model", None)
        self.asked: ChatOptions | None = model if dataset.question.closed_book_tries else None
        """Who is asked each question without documents."""
        self.closed_book = ClosedBook(self.asked, dataset.question) if self.asked else None
        self.agent = create(dataset.agent)
        self.search = create(dataset.agent.search)
        self.judge = create(dataset.agent.judge)
        self.counter = create(dataset.tokenizer).counter(corpus, folder.parent / "corpora")
        self.duplicates = Duplicates(dataset.question)
        self.given = None if dataset.questions_file is None else given(dataset.questions_file, dataset.name, corpus)
        self.doubled: dict[int, str] = {}
        """Why questions that are good in themselves are left out, by candidate."""
        self.keys = self._keys()

    def _keys(self) -> dict[str, str]:
        """What decides the results of each stage: its own section, and all before it."""
        d = self.dataset
        given = [question.to_json() for question in self.given or ()]
        walks = key_of(__version__, self.corpus.id, d.seed, _decides(d.walk, self.walker), given)
        questions = key_of(walks, _decides(d.question, self.writer, without=_CLOSED_BOOK), d.name)
        asked = [d.question.closed_book_tries, _decides(d.question.judge), self.asked and _decides(self.asked)]
        attempts = key_of(questions, _decides(d.agent, self.agent, without=("attempts", "judge")))
        closed_book = key_of(questions, asked if self.asked else None)
        trajectories = key_of(attempts, closed_book, d.agent.attempts, _decides(d.agent.judge))
        how = [_decides(d.distractors), _decides(d.assembly), self.counter.identity, d.tokens]
        samples = key_of(trajectories, how)
        whole = key_of(samples, d.records, d.max_candidates, d.description, d.corpus.licence)
        of = dict(zip(STAGES, (walks, questions, closed_book, trajectories, samples), strict=True))
        return {**of, "attempts": attempts, "all": whole}

    def run(self) -> Built:
        if (card := self._complete()) is not None:
            return Built(self.folder, card, is_new=False)
        with ExitStack() as stack:
            for backend in (self.walker, self.writer, self.closed_book, self.agent, self.search, self.judge):
                if (close := getattr(backend, "close", None)) is not None:
                    stack.callback(close)
            stages = {name: self._stage(name, stack) for name in (*STAGES, "attempts")}
            accepted = self._accepted(stages)
            card = self._finish(stages, accepted)
        (self.folder / ".build" / "samples.journal").unlink()  # as large as the file that was made of it
        return Built(self.folder, card, is_new=True)

    def _complete(self) -> dict[str, Any] | None:
        """The card of a build that has nothing left to do."""
        try:
            card = dict(json.loads((self.folder / CARD).read_bytes()))
            sizes = {name: (self.folder / name).stat().st_size for name in card["files"]}
        except (OSError, ValueError, KeyError):
            return None
        is_same = card.get("key") == self.keys["all"]
        return card if is_same and sizes == {n: f["bytes"] for n, f in card["files"].items()} else None

    def _stage(self, name: str, stack: ExitStack) -> Stage:
        of = {"walks": self.walker, "questions": self.writer, "closed-book": self.closed_book, "samples": None}
        workers = getattr(of.get(name, self.agent), "concurrency", None) or self.workers
        stage = Stage.open(name, self.folder / ".build", self.keys[name], self.progress, workers)
        stack.enter_context(closing(stage.journal))
        return stage

    def _accepted(self, stages: Mapping[str, Stage]) -> list[int]:
        """Numbers of the first candidates that pass every stage, as many as there shall be records."""
        most = len(self.given) if self.given else self.dataset.records * self.dataset.max_candidates
        assembler = self._assembler()
        accepted: list[int] = []
        tried = 0
        while (missing := self.dataset.records - len(accepted)) > 0:
            if tried == most:
                raise self._too_few(stages, len(accepted), tried)
            round_ = range(tried, min(tried + max(missing, SMALLEST_ROUND), most))
            tried = round_.stop
            numbers: Sequence[int] = round_
            if self.given is None:
                self._walk(stages["walks"], round_)
                numbers = [n for n in round_ if self._path(stages["walks"], n)]
            stages["questions"].run(numbers, lambda n: self._question(stages["walks"], n))
            numbers = [n for n in stages["questions"].good(numbers) if not self._is_doubled(stages["questions"], n)]
            if self.closed_book is not None:
                stages["closed-book"].run(numbers, lambda n: self._ask(stages["questions"], n))
                numbers = stages["closed-book"].good(numbers)
            attempts = [attempt_number(n, place) for n in numbers for place in range(self.dataset.agent.attempts)]
            stages["attempts"].run(attempts, lambda n: self._attempt(stages["questions"], n))
            stages["trajectories"].run(numbers, lambda n: self._draw(stages, n))
            answered = stages["trajectories"].good(numbers)
            while answered and (missing := self.dataset.records - len(accepted)):
                numbers, answered = answered[:missing], answered[missing:]
                stages["samples"].run(numbers, lambda n: self._sample(stages, assembler, n))
                accepted += stages["samples"].good(numbers)
        return accepted

    def _assembler(self) -> Assembler:
        d = self.dataset
        lengths = Lengths(
            self.counter,
            self.corpus.num_pages,
            self.folder.parent / "corpora",
            corpus=self.corpus.id,
            max_characters=d.assembly.max_characters,
        )
        return Assembler(d, self.corpus, lengths, create(d.distractors))

    def _walk(self, walks: Stage, numbers: range) -> None:
        section, seed = self.dataset.walk, self.dataset.seed

        def work(number: int) -> str:
            return _json(walk(self.corpus, self.walker, section, number, random_of(seed, "walk", number)).to_json())

        each = section.paths_per_walk
        walks.run(range(numbers.start // each, (numbers.stop - 1) // each + 1), work)

    def _path(self, walks: Stage, number: int) -> list[str] | None:
        """The path of a candidate; None where its walk gave fewer."""
        each = self.dataset.walk.paths_per_walk
        paths = walks.get(number // each).get("paths", ())
        return paths[number % each] if number % each < len(paths) else None

    def _question(self, walks: Stage, number: int) -> str:
        if self.given is not None:
            return _json(self.given[number].to_json())
        path = [page for id in self._path(walks, number) or () if (page := self.corpus.find(id)) is not None]
        draft = self.writer.write(path, random_of(self.dataset.seed, "question", number))
        name = f"{self.dataset.name}-{number:06d}"
        return _json(accept(draft, path, self.dataset.question, id=name).to_json())

    def _is_doubled(self, questions: Stage, number: int) -> bool:
        if self.given is not None:  # whoever wrote them wants them all
            return False
        reason = self.duplicates.refuses(questions.get(number)["answer"])
        if reason:
            self.doubled[number] = reason
        return reason is not None

    def _ask(self, questions: Stage, number: int) -> str:
        """Nothing, for a question that is not answered without documents."""
        assert self.closed_book is not None
        random = random_of(self.dataset.seed, "closed book", number)
        self.closed_book.ask(Question.from_json(questions.get(number)), random)
        return "{}"

    def _attempt(self, questions: Stage, attempt: int) -> str:
        """One attempt at a question, not judged yet."""
        number, place = candidate_and_place(attempt)
        question = Question.from_json(questions.get(number))
        made = Attempt(self.corpus, self.search, self.dataset.agent, number=place)
        self.agent.attempt(question.text, made, random_of(self.dataset.seed, "attempt", number, place))
        if not made.text:
            raise Rejected("the agent gave no answer")
        return _json(made.to_json(question, self.agent.name))

    def _draw(self, stages: Mapping[str, Stage], number: int) -> str:
        """Which of the attempts that are right is taken, and how many there are."""
        d, attempts = self.dataset, stages["attempts"]
        question = Question.from_json(stages["questions"].get(number))
        places = {attempt_number(number, place): place for place in range(d.agent.attempts)}
        answers = {attempt: attempts.get(attempt)["trajectory"]["answer"] for attempt in attempts.good(places)}
        if not answers:
            raise Rejected(attempts.rejection(next(iter(places))))
        right = right_answers(self.judge, question, answers.values(), whose="the agent")
        found = [places[attempt] for attempt, answer in answers.items() if answer in right]
        if not found:
            raise Rejected("no attempt was right")
        return _json({"taken": random_of(d.seed, "taken", number).choice(found), "right": len(found)})

    def _taken(self, stages: Mapping[str, Stage], number: int) -> tuple[Trajectory, dict[str, Page]]:
        """The attempt that was drawn, and its documents that are not of the corpus."""
        made = stages["attempts"].get(attempt_number(number, stages["trajectories"].get(number)["taken"]))
        return replace(Trajectory.from_json(made["trajectory"]), is_correct=True), outside(made)

    def _sample(self, stages: Mapping[str, Stage], assembler: Assembler, number: int) -> str:
        question = Question.from_json(stages["questions"].get(number))
        trajectory, documents = self._taken(stages, number)
        seed = seed_of(self.dataset.seed, "sample", number)
        made = assembler.assemble(number, question, trajectory, documents, seed)
        assert made.sample.provenance is not None
        said = {
            "num_tokens": made.sample.provenance.num_tokens,
            "documents": made.documents,
            "named": made.named,
            "dropped": made.dropped,
        }
        return f"{_json(said)}\t{_json(made.sample.to_json())}"

    def _finish(self, stages: Mapping[str, Stage], accepted: Sequence[int]) -> dict[str, Any]:
        """Writes the files of a build whose stages are done, the card last."""
        tried = accepted[-1] + 1
        (self.folder / CARD).unlink(missing_ok=True)  # from here on the files are not those that it tells of
        walked = range(0 if self.given else tried)
        figures = Figures()
        lines = {
            "walks": (_json(p).encode() for n in walked if (p := self._path(stages["walks"], n))),
            "questions": (stages["questions"].journal.raw(n) for n in accepted),
            "trajectories": (_json(self._taken(stages, n)[0].to_json()).encode() for n in accepted),
            "data": _records(stages["samples"], accepted, figures),
        }
        files = {f"{name}.jsonl": _write_lines(self.folder / f"{name}.jsonl", found) for name, found in lines.items()}
        d = self.dataset
        card = {
            "name": d.name,
            "description": d.description,
            "ltrl": __version__,
            "key": self.keys["all"],
            "seed": d.seed,
            "tokens": d.tokens,
            "tokenizer": self.counter.identity,
            "licence": d.corpus.licence,
            "corpus": {key: value for key, value in self.corpus.facts.items() if key != "skipped"},  # it names places
            "stages": self._tally(stages, tried),
            "figures": figures.to_json(),
            "spec": d.model_dump(mode="json", exclude={"output"}),
            "files": files,
        }
        write(self.folder / PLOTS, card_svg(card))
        write(self.folder / "card.md", card_markdown(card))
        write(self.folder / CARD, _json(card) + "\n")
        return card

    def _tally(self, stages: Mapping[str, Stage], tried: int) -> dict[str, Any]:
        """How many candidates came into each stage and out of it, and why others did not."""
        tally: dict[str, Any] = {}
        numbers: Sequence[int] = range(tried)
        for name in STAGES:
            if name == "closed-book" and self.closed_book is None:
                tally[name] = {"model": None, "tried": 0, "good": 0, "lost": {}}
                continue
            reasons = (self._reason(stages[name], name, n) for n in numbers)
            lost = {n: reason for n, reason in zip(numbers, reasons, strict=True) if reason}
            good = [n for n in numbers if n not in lost]
            by_reason = dict(sorted(Counter(lost.values()).items()))
            tally[name] = {"tried": len(numbers), "good": len(good), "lost": by_reason}
            if name == "walks" and not self.given:
                tally[name] |= self._walked(stages[name], tried)
            if self.asked is not None and name == "closed-book":
                tally[name] = {"model": self.asked.model, **tally[name]}
            if name == "trajectories":
                right = Counter(stages[name].get(n)["right"] for n in good)
                tally[name]["questions_by_right_attempts"] = {str(count): right[count] for count in sorted(right)}
            numbers = good
        return tally

    def _walked(self, walks: Stage, tried: int) -> dict[str, int]:
        """How the walks of the candidates went."""
        found = [walks.get(n) for n in range((tried - 1) // self.dataset.walk.paths_per_walk + 1)]
        counts = {key: sum(one.get(key, 0) for one in found) for key in ("mad_walks", "mad_steps", "dead_ends")}
        return {"walks": len(found), **counts}

    def _reason(self, stage: Stage, name: str, number: int) -> str | None:
        """Why a candidate went no further; None when it did."""
        if name == "walks":
            return None if self.given or self._path(stage, number) else "the walk ended before"
        return stage.rejection(number) or (self.doubled.get(number) if name == "questions" else None)

    def _too_few(self, stages: Mapping[str, Stage], found: int, tried: int) -> LtrlError:
        lost: Counter[str] = Counter()
        for stage in self._tally(stages, tried).values():
            lost.update(stage["lost"])
        listed = "; ".join(f"{reason}: {count}" for reason, count in lost.most_common(4))
        message = f"{tried} candidates gave {found} records, {self.dataset.records} are asked for ({listed})"
        hint = "ask for fewer `records`, or raise `max_candidates`: what is done is kept"
        return fail(Code.BAD_DATA, message, hint=hint)


def _decides(section: Model, backend: object = None, *, without: Collection[str] = ()) -> list[Any]:
    """What of a section decides the results: neither where things lie nor how fast they are done."""
    values = []
    for name, info in type(section).model_fields.items():
        grade = next((m for m in info.metadata if isinstance(m, Grade)), Grade.NEW_RUN)
        if grade is Grade.NEW_RUN and name not in without:
            value = getattr(section, name)
            plain = section.model_dump(mode="json", include={name})[name]
            values.append([name, _decides(value) if isinstance(value, Model) else plain])
    chosen = named(section)
    versions = [info.version for info in backends() if (info.kind, info.name) == chosen]
    return [*values, versions, getattr(backend, "identity", "")]


def _records(samples: Stage, accepted: Sequence[int], figures: Figures) -> Iterator[bytes]:
    for number in accepted:
        said, _, line = samples.journal.raw(number).partition(b"\t")
        figures.add(json.loads(said))
        yield line


def _write_lines(path: Path, lines: Iterable[bytes]) -> dict[str, Any]:
    """Writes a file in one step; size and hash of it."""
    part = path.with_suffix(".jsonl.part")
    digest = hashlib.sha256()
    size = 0
    try:
        with part.open("wb") as file:
            for line in lines:
                for raw in (line, b"\n"):
                    digest.update(raw)
                    size += file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise fail(Code.UNWRITABLE, f"cannot write `{path}`: {(error.strerror or str(error)).lower()}") from None
    return {"bytes": size, "sha256": digest.hexdigest()}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
