"""`aa-lcr`: Artificial Analysis Long Context Reasoning, 100 questions over sets of real documents of about 100K tokens.

Prompt, order of documents and equality checker are those of the data set's card (ArtificialAnalysis/AA-LCR 1.0,
Apache-2.0, quoted); documents are not in the card's table but in `extracted_text/AA-LCR_extracted-text.zip`. The card's
judge is Qwen3 235B A22B 2507 without reasoning; harnesses ask each question 4 times. LongTraceRL judged with the
prompt `hle-style` instead.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from ltrl.backend import BenchmarkSection, JudgeChoice, create
from ltrl.benchmark import Answered, Outcome, Question, asked_of
from ltrl.errors import Code, LtrlError, fail, unreadable
from ltrl_backends.benchmarks.records import count, from_hub, local, read, text

__all__ = ["AALCR"]

REPOSITORY = "ArtificialAnalysis/AA-LCR"
TABLE = "AA-LCR_Dataset.csv"
ARCHIVE = "extracted_text/AA-LCR_extracted-text.zip"


class AALCR:
    """Questions of the table, each with its documents; right is what the judge says."""

    api: ClassVar[int] = 1

    class Options(BenchmarkSection):
        """AA-LCR: reasoning over document sets of about 100K tokens, judged."""

        backend: Literal["aa-lcr"]
        """This backend."""
        judge: JudgeChoice
        """Who compares answers; `template: aa-lcr` asks what the benchmark publishes."""
        path: str | None = None
        """Directory like the hub's repository: `AA-LCR_Dataset.csv` and `extracted_text/`, as the archive or unpacked;
        by default the hub."""
        revision: str | None = None
        """Commit of the hub's repository; by default its newest."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._judge = create(options.judge)

    def __iter__(self) -> Iterator[Question]:
        """Every question in the table's order."""
        root = self._root()
        document = _documents(root)
        for position, row in read(root / TABLE):
            category, folder = text(position, row, "document_category"), text(position, row, "document_set_id")
            names = [name for name in text(position, row, "data_source_filenames").split(";") if name]
            question = text(position, row, "question")
            documents = [document(f"{category}/{folder}/{name}") for name in names]
            yield Question(
                id=text(position, row, "question_id"),
                messages=(("user", prompt(documents, question)),),
                label=text(position, row, "answer"),
                text=question,
                splits={"category": category},
            )

    def num_questions(self) -> int:
        """Rows of the table."""
        return count(self._root() / TABLE)

    def _root(self) -> Path:
        path, revision = self._options.path, self._options.revision
        return local(path) if path else from_hub(REPOSITORY, (TABLE, ARCHIVE), revision=revision)

    def grade(self, answers: Sequence[Answered]) -> list[Outcome]:
        """1 where the judge says that an answer agrees with the official one."""
        return asked_of(self._judge, answers)


def prompt(documents: Sequence[str], question: str) -> str:
    """The prompt of the card, word for word."""
    joined = "\n\n".join(
        f"BEGIN DOCUMENT {number}:\n{document}\nEND DOCUMENT {number}" for number, document in enumerate(documents, 1)
    )
    return (
        f"BEGIN INPUT DOCUMENTS\n\n{joined}\n\nEND INPUT DOCUMENTS\n\n"
        "Answer the following question using the input documents provided above.\n\n"
        f"START QUESTION\n\n{question}\n\nEND QUESTION\n"
    )


def _documents(root: Path) -> Callable[[str], str]:
    """Reads a document by its path below `lcr/`."""
    archive, folder = root / ARCHIVE, (root / ARCHIVE).parent
    if not archive.is_file():

        def from_folder(name: str) -> str:
            try:
                return (folder / "lcr" / name).read_text(encoding="utf-8")
            except OSError as error:
                raise LtrlError(unreadable(error, f"the document `{folder / 'lcr' / name}`")) from None

        return from_folder

    def from_archive(name: str) -> str:
        try:
            with zipfile.ZipFile(archive) as packed:
                return packed.read(f"lcr/{name}").decode()
        except KeyError:
            raise fail(Code.BAD_DATA, f"`{archive}` has no document `lcr/{name}`") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise fail(Code.BAD_DATA, f"`{archive}` cannot be read: {error}") from None

    return from_archive
