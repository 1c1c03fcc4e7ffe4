"""Documents: YAML 1.2 values, positions, layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrl.errors import Code, LtrlError, Source
from ltrl.source import Document, load, override, parse


def document(text: str) -> Document:
    return parse(Source("spec.yaml", text, "spec.yaml"))


def mistakes(text: str) -> list[tuple[Code, str, int, int]]:
    with pytest.raises(LtrlError) as caught:
        document(text)
    found = []
    for d in caught.value.diagnostics:
        assert d.position is not None
        found.append((d.code, d.message, d.position.line, d.position.column))
    return found


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+7", 7),
        ("1_000", "1_000"),
        ("1e-6", 1e-6),
        (".5", 0.5),
        ("2.", 2.0),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ('"5"', "5"),
        ("128k", "128k"),
        ("1.2.3", "1.2.3"),
        ("9" * 5000, float("inf")),
    ],
)
def test_plain_scalars_follow_the_yaml_1_2_core_schema(written: str, value: object) -> None:
    assert document(f"a: {written}\n").data == {"a": value}


def test_every_key_and_value_knows_where_it_stands() -> None:
    made = document("model:\n  base: tiny\n  list: [1, {x: two}]\n")
    at = {path: (p.line, p.column, p.width) for path, p in made.values.items()}
    assert at == {
        (): (1, 1, 6),
        ("model",): (2, 3, 10),
        ("model", "base"): (2, 9, 4),
        ("model", "list"): (3, 9, 13),
        ("model", "list", 0): (3, 10, 1),
        ("model", "list", 1): (3, 13, 8),
        ("model", "list", 1, "x"): (3, 17, 3),
    }
    assert (made.keys["model", "base"].line, made.keys["model", "base"].column) == (2, 3)


def test_a_duplicate_key_names_both_lines() -> None:
    assert mistakes("a: 1\nb:\n  c: 2\n  c: 3\na: 4\n") == [
        (Code.DUPLICATE_KEY, "`c` is written twice, first at line 3", 4, 3),
        (Code.DUPLICATE_KEY, "`a` is written twice, first at line 1", 5, 1),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\n\tb: 2\n", (Code.NOT_YAML, "not YAML: a tab indents this line", 2, 1)),
        ("a: b: c\n", (Code.NOT_YAML, "not YAML: a `:` that cannot stand here", 1, 5)),
        ("", (Code.WRONG_TYPE, "the file is empty", 1, 1)),
        ("# only a comment\n", (Code.WRONG_TYPE, "the file is empty", 1, 1)),
        ("- a\n", (Code.WRONG_TYPE, "expected `field: value` lines", 1, 1)),
        ("a: &x [*x]\n", (Code.UNSUPPORTED_YAML, "an alias stands inside what it names", 1, 4)),
        ("<<: {a: 1}\n", (Code.UNSUPPORTED_YAML, "`<<` does not merge", 1, 1)),
        ("1: a\n", (Code.UNSUPPORTED_YAML, "the key `1` is not text", 1, 1)),
        (
            "a: !!python/name:os.system b\n",
            (Code.UNSUPPORTED_YAML, "the tag `!!python/name:os.system` has no meaning here", 1, 4),
        ),
        ("a: \x07\n", (Code.NOT_YAML, "the character U+0007 (a control character) is not allowed in YAML", 1, 4)),
        ("a: 1\n---\nb: 2\n", (Code.NOT_YAML, "not YAML: a second document begins", 2, 1)),
    ],
)
def test_what_is_not_a_document_is_said_with_its_place(text: str, found: tuple[Code, str, int, int]) -> None:
    assert mistakes(text) == [found]


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(LtrlError, match="more than 20000 values"):
        document("\n".join(lines))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1\n")
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "quickstrat.yaml")
    [found] = caught.value.diagnostics
    assert found.message == f"cannot read `{tmp_path}/quickstrat.yaml`: no such file or directory"
    assert found.hint == f"did you mean `{tmp_path}/quickstart.yaml`?"


def test_a_directory_is_answered_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "specs")
    [found] = caught.value.diagnostics
    assert found.message == f"cannot read `{tmp_path}/specs`: is a directory"
    assert found.hint == f"name the files in it: `{tmp_path}/specs/*.yaml`"


def test_bytes_that_are_not_utf_8_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "a.yaml")
    [found] = caught.value.diagnostics
    assert (found.code, found.message) == (Code.NOT_UTF8, "byte 0xe9 is not UTF-8")
    assert found.position is not None
    assert (found.position.line, found.position.column) == (2, 7)


def test_layers_merge_mappings_and_keep_positions(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nl: [1, 2]\n")
    (tmp_path / "spec.yaml").write_text("extends: base.yaml\na: {y: 3}\n")
    (tmp_path / "over.yaml").write_text("l: [9]\na:\n  z: 4\n")
    made = load(tmp_path / "spec.yaml", overlays=[tmp_path / "over.yaml"], sets=["a.x=5", "new.deep={k: 1e-3}"])
    assert made.data == {"a": {"x": 5, "y": 3, "z": 4}, "l": [9], "new": {"deep": {"k": 1e-3}}}
    labels = {".".join(map(str, path)): p.label for path, p in made.values.items() if path}
    assert labels == {
        "a": "over.yaml:3",
        "a.x": "--set a.x=5:1",
        "a.y": "spec.yaml:2",
        "a.z": "over.yaml:3",
        "l": "over.yaml:1",
        "l.0": "over.yaml:1",
        "new": "--set new.deep={k: 1e-3}:1",
        "new.deep": "--set new.deep={k: 1e-3}:1",
        "new.deep.k": "--set new.deep={k: 1e-3}:1",
    }
    where = made.values["new", "deep", "k"]
    assert where.source.text[where.column - 1 :][: where.width] == "1e-3"
    assert [s.label for s in made.sources[:2]] == ["spec.yaml", "base.yaml"]


def test_replacing_a_mapping_forgets_what_was_in_it(tmp_path: Path) -> None:
    made = override(document("a: {x: 1, y: {z: 2}}\n"), ["a=off"])
    assert made.data == {"a": "off"}
    assert set(made.values) == {(), ("a",)}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("steps", "`steps` is not `field.path=value`"),
        ("=1", "`=1` is not `field.path=value`"),
        ("a..b=1", "`a..b=1` is not `field.path=value`"),
        ("a.x.y=1", "`a.x` is `1`, it has no field `y`"),
        ("l.7=1", "`l` is a list of 2, `7` is not in it"),
        ("a=[1", "`[1` is not a YAML value"),
    ],
)
def test_a_bad_set_argument_points_into_the_argument(argument: str, message: str) -> None:
    with pytest.raises(LtrlError) as caught:
        override(document("a: {x: 1}\nl: [1, 2]\n"), [argument])
    [found] = caught.value.diagnostics
    assert (found.code, found.message) == (Code.BAD_SET, message)
    assert found.position is not None
    assert found.position.source.text == argument


def test_an_item_of_a_list_can_be_set() -> None:
    assert override(document("l: [{x: 1}, {x: 2}]\n"), ["l.1.x=9"]).data == {"l": [{"x": 1}, {"x": 9}]}


def test_a_spec_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: [a.yaml]\n")
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "a.yaml")
    assert [(d.code, str(d.position)) for d in caught.value.diagnostics] == [
        (Code.EXTENDS_CYCLE, f"{tmp_path / 'b.yaml'}:1:11"),
    ]


def test_a_missing_parent_is_reported_at_the_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: 1\nextends: gone.yaml\n")
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "a.yaml")
    [found] = caught.value.diagnostics
    assert (found.code, str(found.position)) == (Code.UNREADABLE, f"{tmp_path / 'a.yaml'}:2:10")


def test_windows_line_ends_and_a_byte_order_mark_are_kept_and_understood(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("\ufeffa: 1\r\nb: zwei\r\n".encode())
    made = load(tmp_path / "a.yaml")
    assert made.data == {"a": 1, "b": "zwei"}
    assert made.sources[0].text.encode() == (tmp_path / "a.yaml").read_bytes()
    assert made.values["b",].line == 2


def test_a_reference_in_extends_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTRL_TEST_BASE", "base")
    (tmp_path / "base.yaml").write_text("a: 1\n")
    (tmp_path / "spec.yaml").write_text("extends: ${env:LTRL_TEST_BASE}.yaml\nb: 2\n")
    assert load(tmp_path / "spec.yaml").data == {"a": 1, "b": 2}


def test_mistakes_of_every_layer_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "over.yaml").write_text("b: [1\n")
    with pytest.raises(LtrlError) as caught:
        load(tmp_path / "spec.yaml", overlays=[tmp_path / "over.yaml"], sets=["x", "a.b=1"])
    assert [(d.code, d.position.source.name.split("/")[-1], d.position.line) for d in caught.value.diagnostics
            if d.position] == [
        (Code.BAD_SET, "--set", 1),
        (Code.BAD_SET, "--set", 1),
        (Code.NOT_YAML, "over.yaml", 1),
        (Code.DUPLICATE_KEY, "spec.yaml", 2),
    ]  # fmt: skip


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(LtrlError, match="`/dev/zero` has more than 1 MiB"):
        load(Path("/dev/zero"))


@given(st.text(alphabet="[]{}-: \n?&*a", max_size=400))
def test_nesting_never_ends_the_process(text: str) -> None:
    try:
        document("a: " + text * 40)
    except LtrlError:
        return


@given(st.text(max_size=80))
def test_any_text_is_a_document_or_a_diagnostic(text: str) -> None:
    try:
        assert isinstance(document(text).data, dict)
    except LtrlError as error:
        unplaced = [d for d in error.diagnostics if d.position is None]
        if unplaced:
            raise AssertionError(unplaced) from error
