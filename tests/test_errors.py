"""A corpus of broken files: the exact place of every mistake, what is said and what to do about it.

`errors/NAME.yaml` says in its first lines where its mistakes are (`# expect: CODE [FILE:]LINE:COLUMN`), `NAME.txt` is
all that `ltrl check` prints. The same file is put over a good one, and the same mistake is made on the command line
(`# set: path=«value»`, the marks enclose what is pointed at).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
import yaml

from ltrl.cli import main
from ltrl.errors import Code, LtrlError, Source
from ltrl.schema import schema
from ltrl.source import load, parse

CORPUS = Path(__file__).resolve().parent / "errors"
NAMES = sorted(path.stem for path in CORPUS.glob("*.yaml"))
ENVIRONMENT = {"LTRL_WORD": "many"}

SEEN_BY_A_SCHEMA = {
    Code.MISSING_FIELD,
    Code.WRONG_TYPE,
    Code.INVALID_VALUE,
    Code.WRONG_KIND,
    Code.UNKNOWN_FIELD,
    Code.UNKNOWN_BACKEND,
    Code.SECRET,
    Code.BAD_REFERENCE,
}
NOT_A_DOCUMENT = {Code.NOT_UTF8, Code.NOT_YAML, Code.DUPLICATE_KEY, Code.UNSUPPORTED_YAML}
"""YAML itself is at fault: there is nothing that a schema could be asked about."""
BEYOND_A_SCHEMA = {
    Code.UNREADABLE,
    Code.EXTENDS_CYCLE,
    Code.UNSET_REFERENCE,
    Code.UNKNOWN_MODEL,
    Code.CONTEXT_TOO_LONG,
    Code.LAYOUT,
    Code.ENGINE_LIMIT,
    Code.MEMORY,
    Code.STAGE,
    Code.SWEEP,
}
"""They depend on other fields, other files, the model, the engine or the machine."""


@dataclass(frozen=True)
class Case:
    """One broken file and what is to be said of it."""

    name: str
    text: str

    @property
    def expected(self) -> list[tuple[str, str, int, int]]:
        """(code, file, line, column) of each mistake."""
        found = re.findall(
            r"^\ufeff?# expect: (LTRL\d{3}) (?:(\S+?):)?(\d+):(\d+)(?: warning)?\r?$", self.text, re.MULTILINE
        )
        return [(code, file or f"{self.name}.yaml", int(line), int(column)) for code, file, line, column in found]

    def told(self, what: str) -> list[str]:
        """The values of a line of the head."""
        return re.findall(rf"^# {what}: (.*?)\r?$", self.text, re.MULTILINE)

    @property
    def status_and_stdout(self) -> tuple[int, str]:
        """What is printed to stdout, and the exit status: a warning is no mistake."""
        warns = re.search(r"^# expect: .* warning$", self.text, re.MULTILINE)
        return (0, "FILE: ok\n") if warns else (1, "")

    @property
    def is_cluster(self) -> bool:
        return self.name.startswith("cluster-")


def case(name: str) -> Case:
    return Case(name, (CORPUS / f"{name}.yaml").read_bytes().decode(errors="replace"))


Check = Callable[..., tuple[int, str, str]]
RAN: dict[tuple[str, ...], tuple[int, str, str]] = {}
"""What each command printed: several tests look at the same."""


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs `ltrl check` beside the corpus: its status, stdout and stderr."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(CORPUS)

    def run(*arguments: str) -> tuple[int, str, str]:
        if arguments in RAN:
            return RAN[arguments]
        monkeypatch.setattr("sys.argv", ["ltrl", "check", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        RAN[arguments] = int(ended.value.code or 0), printed.out, printed.err
        return RAN[arguments]

    return run


def places(stderr: str) -> list[tuple[str, str, int, int]]:
    """(code, file, line, column) of each mistake that was printed."""
    found = re.findall(r"^(?:error|warning)\[(LTRL\d{3})\]: .*\n  --> (\S+?):(\d+):(\d+)$", stderr, re.MULTILINE)
    return [(code, file, int(line), int(column)) for code, file, line, column in found]


def messages(stderr: str) -> list[str]:
    return re.findall(r"^(?:error|warning)\[LTRL\d{3}\]: (.*)$", stderr, re.MULTILINE)


def test_the_corpus_is_large() -> None:
    assert len(NAMES) >= 120
    assert {code for name in NAMES for code, *_ in case(name).expected} >= SEEN_BY_A_SCHEMA | NOT_A_DOCUMENT


@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_at_its_line_and_column(name: str, check: Check) -> None:
    status, out, err = check(f"{name}.yaml")
    assert (status, out.replace(f"{name}.yaml", "FILE")) == case(name).status_and_stdout
    assert sorted(places(err)) == sorted(case(name).expected)
    golden = CORPUS / f"{name}.txt"
    if os.environ.get("LTRL_UPDATE_GOLDENS"):
        golden.write_text(err, encoding="utf-8")
    assert err == golden.read_text(encoding="utf-8")


def test_mistakes_are_in_the_order_of_their_lines(check: Check) -> None:
    for name in NAMES:
        _, _, err = check(f"{name}.yaml")
        found = [(file, line, column) for _, file, line, column in places(err)]
        assert found == sorted(found), name


def test_four_of_five_mistakes_come_with_a_hint(check: Check) -> None:
    said = [check(f"{name}.yaml")[2] for name in NAMES]
    mistakes = sum(len(messages(err)) for err in said)
    hints = sum(err.count("\nhint: ") for err in said)
    assert hints / mistakes >= 0.8


def test_nothing_that_is_printed_is_a_traceback_or_anothers_english(check: Check) -> None:
    for name in NAMES:
        _, _, err = check(f"{name}.yaml")
        assert not re.search(
            r"Traceback|Input should|Field required|Extra inputs|validation error|pydantic|bug in", err
        ), name


@pytest.mark.parametrize("name", [n for n in NAMES if not case(n).is_cluster])
def test_an_overlay_has_the_same_mistakes_at_the_same_places(name: str, check: Check) -> None:
    over = (case(name).told("over") or ["good/local.yaml"])[0]
    if over.startswith("none, "):
        return
    alone = check(f"{name}.yaml")
    status, out, err = check(over, "-f", f"{name}.yaml")
    assert (status, out.replace(over, "FILE")) == case(name).status_and_stdout
    assert (places(err), messages(err)) == (places(alone[2]), messages(alone[2]))


@pytest.mark.parametrize("name", [n for n in NAMES if case(n).is_cluster])
def test_a_cluster_profile_has_the_same_mistakes_beside_a_spec(name: str, check: Check) -> None:
    alone = check(f"{name}.yaml")
    status, out, err = check("good/nemo-rl.yaml", "--cluster", f"{name}.yaml")
    assert (status, out, err) == (1, "", alone[2])


@pytest.mark.parametrize("name", [n for n in NAMES if case(n).told("set")])
def test_the_same_mistake_on_the_command_line_points_into_the_argument(name: str, check: Check) -> None:
    [marked] = case(name).told("set")
    [(code, _, line, column)] = case(name).expected
    written = case(name).text.splitlines()[line - 1][column - 1 :].split()[0]
    marked = marked.replace("(the same)", written)
    start, end = marked.index("«"), marked.index("»") - 1
    argument = marked.replace("«", "").replace("»", "")
    spec = [(case(name).told("over") or ["good/local.yaml"])[0]]
    if case(name).is_cluster:
        spec = ["good/nemo-rl.yaml", "--cluster", "good/cluster.yaml"]
    _, _, alone = check(f"{name}.yaml")
    status, out, err = check(*spec, "--set", argument)
    assert (status, out) == (1, "")
    assert places(err) == [(code, "--set", 1, start + 1)]
    carets = re.findall(r"^ +\| +(\^+)$", err, re.MULTILINE)
    assert len(carets[0]) == end - start
    if "${" not in argument and "empty" not in messages(alone)[0]:
        assert messages(err) == messages(alone)


@pytest.mark.parametrize("name", [n for n in NAMES if "secret" in n or "key" in n])
def test_a_secret_is_never_printed(name: str, check: Check) -> None:
    shapes = r"sk-proj-Ab3|hf_aB3|AKIAIOSF|ghp_aB3d|xoxb-1234|swordfish|hunter22|open-sesame|a1b2c3d4e5f6"
    if not re.search(shapes, case(name).text):
        return
    for formats in ((), ("--json",), ("--sarif",), ("--github",)):
        _, out, err = check(f"{name}.yaml", *formats)
        assert not re.search(shapes, out + err)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_agrees_with_check(name: str) -> None:
    codes = {Code(code) for code, file, *_ in case(name).expected if file == f"{name}.yaml"}
    if codes & NOT_A_DOCUMENT:
        return
    data = data_of(name)
    kind = "cluster" if case(name).is_cluster else "experiment"
    accepts = jsonschema.Draft202012Validator(schema(kind)).is_valid(data)
    told = [reason for reason in case(name).told("schema") if reason.startswith("accepts, ")]
    assert codes <= SEEN_BY_A_SCHEMA | BEYOND_A_SCHEMA
    assert accepts == bool(told or codes <= BEYOND_A_SCHEMA)


def data_of(name: str) -> object:
    """What a file holds, also where it is no mapping or has a secret in it."""
    try:
        return parse(Source(name, case(name).text)).data
    except LtrlError as error:
        if error.diagnostics[0].code is Code.SECRET:
            return load(CORPUS / f"{name}.yaml").data
        return yaml.safe_load(case(name).text)
