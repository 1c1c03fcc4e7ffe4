"""Matchers and the reward backends made of them."""

from __future__ import annotations

import dataclasses
import re
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltrl.backend import create, load
from ltrl.errors import Code, LtrlError
from ltrl.scoring import (
    Hit,
    ReferenceMatcher,
    Response,
    ScoreRequest,
    WordsMatcher,
    normalize,
    parse_response,
    recall,
    reference,
    tokens,
    words,
)
from ltrl.scoring.fold import Folded, fold

WORDS = WordsMatcher()
ANY = st.text(st.characters(), max_size=40)  # lone surrogates included
ODD = ["é", "e\u0301", "İ", "\u212a", "中", "国", "Ω", "\u00ad", "’", "½", "ß", "ﬁ", "한", "か\u3099"]
MIXED = st.lists(st.sampled_from([*"abk _.-1,'&", *ODD]), max_size=30).map("".join)


def found(entity: str, text: str, **options: bool) -> list[str]:
    """What of the text the strict matcher takes for the entity."""
    (hit,) = WordsMatcher(**options).hits(text, (entity,), every=True)
    (first,) = WordsMatcher(**options).hits(text, (entity,))
    assert bool(first.spans) == bool(hit.spans)
    assert set(first.spans) <= set(hit.spans)
    return [text[start:end] for start, end in hit.spans]


@pytest.mark.parametrize(
    ("entity", "text", "expected"),
    [
        ("Lady Gaga", "the singer is lady  GAGA!", ["lady  GAGA"]),
        ("Lady Gaga", "**Lady** *Gaga*", ["Lady** *Gaga"]),
        ("Lady Gaga", "Lady\nGaga", ["Lady\nGaga"]),
        ("Lady Gaga", "**Lady** **Gaga**, ***Lady*** ***Gaga***", ["Lady** **Gaga", "Lady*** ***Gaga"]),
        ("Lady Gaga", "Lady  \n  Gaga, *Lady*\\\n*Gaga*", ["Lady  \n  Gaga", "Lady*\\\n*Gaga"]),
        ("Hawaiʻi", "Hawai'i, Hawai’i, Hawaii", ["Hawai'i", "Hawai’i", "Hawaii"]),
        ("Qur'an", "Qurʾan", ["Qurʾan"]),
        ("Lady Gaga", "Lady_Gaga, Lady-Gaga", ["Lady_Gaga", "Lady-Gaga"]),
        ("Just Dance", "“Just Dance” and Just Dance", ["Just Dance", "Just Dance"]),
        ("art", "art, Art; ART", ["art", "Art", "ART"]),
        ("São Paulo", "in Sao Paulo", ["Sao Paulo"]),
        ("Sao Paulo", "in São Paulo.", ["São Paulo"]),
        ("Beyoncé", "Beyonce, Beyonce\u0301, BEYONCÉ", ["Beyonce", "Beyonce\u0301", "BEYONCÉ"]),
        ("Łódź", "in Lodz and Łódź", ["Lodz", "Łódź"]),
        ("Straße", "STRASSE", ["STRASSE"]),
        ("Istanbul", "İstanbul", ["İstanbul"]),
        ("Владимир Путин", "что Владимир Путин.", ["Владимир Путин"]),
        ("Ёлка", "елка", ["елка"]),
        ("Αθήνα", "στην ΑΘΗΝΑ", ["ΑΘΗΝΑ"]),
        ("서울", "서울에서", ["서울"]),
        ("東京タワー", "彼は東京タワーに行った", ["東京タワー"]),
        ("北京大学", "我在北京大学读书", ["北京大学"]),
        ("हिन्दी", "वह हिन्दी है", ["हिन्दी"]),
        ("القاهرة", "في القَاهِرة", ["القَاهِرة"]),
        ("iPhone15", "我的iPhone15手机", ["iPhone15"]),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width", ["full width"]),
        ("1998", "in 1,998 days of 1998", ["1,998", "1998"]),
        ("1,234,567", "1234567 or 1 234 567", ["1234567", "1 234 567"]),
        ("10 000", "10,000, 10 000 or 10000", ["10,000", "10 000", "10000"]),
        ("1234567890123", "about 1,234,567,890,123", ["1,234,567,890,123"]),
        ("1\u202f250\u202f000 km", "1,250,000 km", ["1,250,000 km"]),
        ("Boeing 747 400", "a Boeing 747-400", ["Boeing 747-400"]),
        ("92.2 m", "92.2 m, 92.2m, 92.2 metres, 92.20 meters", ["92.2 m", "92.2m", "92.2 metres", "92.20 meters"]),
        ("5 million", "5,000,000 or 5 million", ["5,000,000", "5 million"]),
        ("5,000,000", "5 million people", ["5 million"]),
        ("€3 billion", "€3bn, 3 bn, 3,000,000,000 and 13bn", ["3bn", "3 bn", "3,000,000,000"]),
        ("3bn", "3 billion, 3bn", ["3 billion", "3bn"]),
        ("50%", "50 percent, 50 %", ["50 percent", "50 %"]),
        ("3 km²", "3 square kilometres", ["3 square kilometres"]),
        ("USA", "the U.S.A. and the USA", ["U.S.A.", "USA"]),
        ("U.S.A.", "the USA", ["USA"]),
        ("T. S. Eliot", "T.S. Eliot, TS Eliot", ["T.S. Eliot", "TS Eliot"]),
        ("J.R. R. Tolkien", "J.R. R. Tolkien, J. R.R. Tolkien", ["J.R. R. Tolkien", "J. R.R. Tolkien"]),
        ("Dr Who", "Dr. Who", ["Dr. Who"]),
        ("O'Brien", "O’Brien, OBrien", ["O’Brien", "OBrien"]),
        ("AT&T", "AT & T, AT&amp;T", ["AT & T", "AT&amp;T"]),
        ("Simon and Garfunkel", "Simon & Garfunkel", ["Simon & Garfunkel"]),
        ("And Justice for All", "...And Justice for All", ["And Justice for All"]),
        ("¼ mile", "a 1/4 mile", ["1/4 mile"]),
        ("a:b", "a:b and a b", ["a:b", "a b"]),
        ("Panic! at the Disco", "Panic at the Disco", ["Panic at the Disco"]),
        ("C++", "C++ and C#", ["C++"]),
        ("EC 6", "EC 6, EC 6.1", ["EC 6"]),
        ("La\u00addy Gaga", "La\u200ddy Gaga", ["La\u200ddy Gaga"]),
        ("New York New York", "york new york new york", ["new york new york"]),
    ],
)
def test_an_entity_is_found_in_every_usual_spelling(entity: str, text: str, expected: list[str]) -> None:
    assert found(entity, text) == expected


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ("art", "a party of Martha's in artful restart"),
        ("11", "2011, 11.5, 110, 1,011"),
        ("11", f"2011 {'x' * 90} 115"),
        ("5", f"5.{'0' * 200}1"),
        ("Lady Gaga", "Lady\n\nGaga, Lady\n* Gaga, **Lady**, **Gaga**"),
        ("The Fame", "bathe fame"),
        ("Just Dance", "unjust dances"),
        ("Lady Gaga", "Ladygaga; Gaga Lady; Lady G. Gaga; a lady. Gaga sang"),
        ("92.2", "92.25 or 192.2"),
        ("92.2 m", "92.2 mm, 92.2 miles"),
        ("C", "C++ and C#"),
        ("Владимир", "Владимирский"),
        ("京都", "東京は都"),
        ("Müller", "m ller"),
        ("東京タワー", "東京"),
    ],
)
def test_a_part_of_a_word_or_another_number_is_no_hit(entity: str, text: str) -> None:
    assert found(entity, text) == []


def test_accents_can_be_made_to_count() -> None:
    assert found("Beyoncé", "Beyonce", ignore_accents=False) == []
    assert found("Beyonce", "Beyoncé", ignore_accents=False) == []
    assert found("Beyoncé", "Beyonce\u0301 BEYONCÉ", ignore_accents=False) == ["Beyonce\u0301", "BEYONCÉ"]


@pytest.mark.parametrize("entity", ["", "   ", "…", "🎵", "***"])
def test_an_entity_with_nothing_to_look_for_is_a_data_error(entity: str) -> None:
    with pytest.raises(LtrlError) as caught:
        WORDS.hits("any text", (entity,))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.BAD_DATA
    assert diagnostic.message == f"the rubric entity `{entity}` has nothing to look for"


def test_an_alias_is_as_good_as_the_name() -> None:
    aliases = {"Lady Gaga": ("Stefani Germanotta",)}
    assert WORDS.hits("Stefani Germanotta sang", ("Lady Gaga", "RedOne"), aliases) == (
        Hit("Lady Gaga", ((0, 18),)),
        Hit("RedOne", ()),
    )


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["Kime", "ba", "北京", "Łódź", "5 km", "USA"]), min_size=1, max_size=6),
    ANY | MIXED,
    st.data(),
)
def test_each_entity_is_looked_for_on_its_own(rubric: list[str], text: str, data: Any) -> None:
    order = data.draw(st.permutations(range(len(rubric))))
    text = f"{text} U.S.A. {text} 5km Lodz 北京"
    for matcher in (WORDS, ReferenceMatcher()):
        hits = matcher.hits(text, rubric)
        assert matcher.hits(text, [rubric[i] for i in order]) == tuple(hits[i] for i in order)
        assert matcher.hits(text, rubric * 2) == hits * 2
        assert recall(hits * 2) == recall(hits)


def test_an_entity_listed_twice_counts_twice() -> None:
    hits = WORDS.hits("Lady Gaga", ("Lady Gaga", "Lady Gaga", "nobody"))
    assert recall(hits) == pytest.approx(2 / 3)


def test_no_character_but_two_becomes_an_ascii_letter_in_lower_case() -> None:
    """The reference matcher relies on it: `K` (Kelvin) and `İ`."""
    foreign = (chr(point) for point in range(128, sys.maxunicode + 1))
    assert [c for c in foreign if re.search("[a-z0-9_]", c.lower())] == ["İ", "\u212a"]


@settings(max_examples=300)
@given(ANY | MIXED, ANY | MIXED)
def test_the_reference_matcher_is_a_substring_of_normal_forms(text: str, entity: str) -> None:
    expected = normalize(entity) in normalize(text)
    (hit,) = ReferenceMatcher().hits(text, (entity,))
    (every,) = ReferenceMatcher().hits(text, (entity,), every=True)
    assert bool(hit.spans) == bool(every.spans) == expected
    for start, end in {*hit.spans, *every.spans}:
        assert 0 <= start <= end <= len(text)
        assert normalize(entity) in normalize(text[start:end])


@settings(max_examples=300)
@given(ANY | MIXED, ANY | MIXED, ANY | MIXED)
def test_an_entity_is_found_where_it_is_written(before: str, entity: str, after: str) -> None:
    text = f"{before} \n\n {entity} \n\n {after}"
    try:
        (hit,) = WORDS.hits(text, (entity,), every=True)
    except LtrlError:
        assert not any(unicodedata.category(c)[0] in "L" for c in entity)
        return
    place = len(before) + 4
    assert any(start <= place + len(entity) and end >= place for start, end in hit.spans), (text, entity)
    for start, end in hit.spans:
        assert 0 <= start < end <= len(text)


SEPARATORS = st.sampled_from(
    [" ", "", "_", "中", "é", "\u212a", "İ", "a", ". ", " " * 500, "\n" * 90 + "国" + " " * 90]
)
SCATTERED = st.lists(st.sampled_from(["a", "b", "ab", "ba", "the", "K", "中", "x1"]), min_size=1, max_size=4).flatmap(
    lambda words: st.tuples(
        st.just(" ".join(words)), st.lists(st.sampled_from(words) | SEPARATORS, max_size=16).map("".join)
    )
)


@settings(max_examples=1000)
@given(SCATTERED, st.sampled_from([1, 2, 16]))
@example(("the x1", f"the{' ' * 5000}x1"), 16)
@example(("the x1", f"the{' ' * 5000}国{' ' * 5000}x1 a the. x1"), 16)
def test_words_with_anything_between_them_are_found_as_in_normal_forms(drawn: tuple[str, str], patience: int) -> None:
    entity, text = drawn
    (hit,) = ReferenceMatcher().hits(text, (entity,))
    every = list(reference.entity(entity).find_all(reference.Prepared(text), patience=patience))
    assert bool(hit.spans) == bool(every) == (normalize(entity) in normalize(text))
    assert tuple(every[:1]) == hit.spans
    assert all(normalize(entity) in normalize(text[start:end]) for start, end in every)


PIECES = [
    "the",
    "at",
    "t",
    "AT&T",
    "U.N.",
    "NATO",
    "5",
    "5,000",
    "1.5",
    "million",
    "bn",
    "km",
    "é",
    "Łódź",
    "北京",
    "東",
]
PIECES += [
    "and",
    "&",
    "a",
    "b",
    "ab",
    "O'Brien",
    "C++",
    "%",
    "-",
    "_",
    ".",
    ",",
    " ",
    "\n",
    "서울",
    "에서",
    "e\u0301",
    "3 km²",
]
WRITTEN = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from([" ", ""])).map("".join), min_size=1, max_size=4)
TEXTS = st.lists(st.tuples(st.sampled_from([*PIECES, "@"]), st.sampled_from([" ", ""])).map("".join), max_size=25)


def whole_pattern(entity: str, text: Folded) -> list[tuple[int, int]]:
    """Where an entity's pattern matches when the whole text is looked through."""
    whole = text.text
    return [
        text.span(len(whole[: match.start()].encode()), len(whole[: match.end()].encode()))
        for match in words.entity(entity, True)._pattern.finditer(whole)
    ]


@settings(max_examples=300)
@given(WRITTEN.map("".join), TEXTS.map("".join), st.integers(0, 3))
def test_searching_around_a_rare_word_finds_what_the_whole_pattern_finds(entity: str, text: str, patience: int) -> None:
    folded = fold(text.replace("@", entity.strip()))
    known = words.entity(entity.strip(), True)
    if known.is_empty:
        return
    assert list(known.find_all(folded, patience=patience)) == whole_pattern(entity.strip(), folded)


TABLE = [
    "8",
    "11",
    "115",
    "1,115",
    "2011",
    "0.11",
    "11.5",
    "92.2",
    "92.20",
    "m",
    "mm",
    "metres",
    "km²",
    "EC",
    "EC 11",
    "EC 115",
]
TABLE += [
    "5",
    "5 million",
    "5bn",
    "5,000,000",
    "%",
    "the",
    "Apollo 1172",
    "U.S.",
    "NASA",
    "北京",
    "東11京",
    "２東",
    "é",
    "서울에서",
]
ROWS = [
    "11",
    "5",
    "EC 11",
    "92.2 m",
    "5 million",
    "11 km²",
    "NASA",
    "U.S.",
    "東11京",
    "2東",
    "Apollo 11",
    "北京",
    "서울",
    "11%",
]


@settings(max_examples=200)
@given(st.sampled_from(ROWS), st.sampled_from([" ", "  ", "", "|", "\n"]), st.randoms(use_true_random=False))
def test_a_long_table_is_searched_as_by_the_whole_pattern(entity: str, between: str, rng: Any) -> None:
    text = fold(between.join(rng.choices(TABLE, k=150)))
    assert list(words.entity(entity, True).find_all(text)) == whole_pattern(entity, text)


@pytest.mark.parametrize("filler", ["x", "é", "国", " "])
def test_an_entity_is_found_far_into_a_text(filler: str) -> None:
    before = filler * 2000
    for matcher in (WORDS, ReferenceMatcher()):
        text = f"{before} black milk. {filler * 3000} black milk"
        (hit,) = matcher.hits(text, ("Black Milk",))
        assert hit.spans == ((2001, 2011),)
    assert found("milk", f"{before} buttermilk {before} buttermilk") == []


SEAMS = st.sampled_from("กぁゖァヺ一龥가힣が각")


@settings(max_examples=300)
@given(ANY | MIXED, SEAMS, ANY | MIXED, st.booleans())
def test_a_text_may_be_cut_before_a_letter_that_joins_nothing(a: str, seam: str, b: str, ignores: bool) -> None:
    one, two = fold(a, ignore_accents=ignores), fold(f"{seam}{b}", ignore_accents=ignores)
    assert fold(f"{a}{seam}{b}", ignore_accents=ignores).data == one.data + two.data


EAST_ASIAN = "，：；！？（）　“”‘’—·、。《》「」ぁがヺー一龥가힣" + "か\u3099\u0301é…Ａ½a "


@settings(max_examples=300)
@given(st.lists(st.text(EAST_ASIAN, min_size=1, max_size=8), max_size=8), st.integers(1, 40), st.booleans())
def test_a_long_text_without_spaces_folds_as_its_characters_do(parts: list[str], times: int, ignores: bool) -> None:
    text = "".join(part * times for part in parts)
    marked = re.findall(r"[^\u0301\u3099][\u0301\u3099]*|^[\u0301\u3099]+", text)
    assert "".join(marked) == text
    assert fold(text, ignore_accents=ignores).data == b"".join(fold(m, ignore_accents=ignores).data for m in marked)


def test_every_character_of_east_asian_texts_folds_the_same_alone_and_in_company() -> None:
    for character in map(chr, [0xB7, *range(0x3001, 0x3100), *range(0x4E00, 0xA000, 7), *range(0xAC00, 0xD7A4, 7)]):
        assert fold("國" * 40 + character + "國" * 40).text == "國" * 40 + fold(f"a{character}a").text[1:-1] + "國" * 40


def test_a_place_deep_in_a_text_without_spaces_is_found() -> None:
    text = "".join(chr(0x4E00 + i * 7 % 5000) for i in range(5000)) + "か\u3099" * 200 + "東京タワー" + "가" * 100
    (hit,) = WORDS.hits(text, ("東京タワー",))
    assert hit.spans == ((5400, 5405),)


@given(ANY | MIXED)
def test_folding_twice_is_folding_once(text: str) -> None:
    once = fold(text).text
    assert fold(once).text == once
    assert tokens(once) == tokens(text)


@given(st.text("abc é中’", max_size=200), st.integers(0, 199), st.integers(1, 20))
def test_a_place_in_a_folded_text_leads_back_to_the_original(text: str, start: int, length: int) -> None:
    folded = fold(text)
    data = folded.data
    end = min(start + length, len(data))
    if start >= end or data[start] & 0xC0 == 0x80 or (end < len(data) and data[end] & 0xC0 == 0x80):
        return
    begin, finish = folded.span(start, end)
    assert fold(text[begin:finish]).data == data[start:end]


def exact(**options: Any) -> Any:
    return load("judge", "exact").Options(backend="exact", **options)


def reward(name: str, **options: Any) -> Any:
    return create(load("reward", name).Options(backend=name, **{"judge": exact()} | options))


def request(raw: str, *, label: str = "C", rubrics: tuple[str, ...] = ("A", "B"), **parse: bool) -> ScoreRequest:
    return ScoreRequest("sample 1", "?", label, rubrics, parse_response(raw, chat_format="qwen3", **parse))


GROUP = [
    request("t\n</think>\n\nevidence A B answer C<|im_end|>"),
    request("t A B\n</think>\n\nevidence A Z answer C<|im_end|>"),
    request("t\n</think>\n\nevidence A B answer X<|im_end|>"),
    request("no tag evidence A B answer C<|im_end|>"),
    request("t\n</think>\n\nevidence A B ans", is_truncated=True),
    request("t\n</think>\n\nevidence A B answer C"),
]
JUDGE = {"answer_pattern": r"evidence .* answer (\w+)", "whole": True}


def test_the_rubric_reward_scores_a_group_and_explains_itself() -> None:
    backend = reward("rubric", judge=exact(**JUDGE))
    scores = backend.score(GROUP)
    assert [(s.outcome, s.rubric, s.zeroed) for s in scores] == [
        (1.0, 1.0, ""),
        (1.0, 0.5, ""),
        (0.0, 1.0, ""),
        (0.0, 0.0, "ill-formed"),
        (0.0, 0.0, "truncated"),
        (0.0, 0.0, "aborted"),
    ]
    assert scores[1].hits == (Hit("A", ((9, 10),)), Hit("B", ()))
    assert scores[2].verdict.reason == "`X` is not the label"
    assert backend.rewards(scores) == pytest.approx([1.0, 0.85, 0.0, 0.0, 0.0, 0.0])


def test_the_outcome_reward_reports_the_rubric_and_pays_nothing_for_it() -> None:
    backend = reward("outcome", judge=exact(**JUDGE))
    scores = backend.score(GROUP)
    assert [s.rubric for s in scores] == [1.0, 0.5, 1.0, 0.0, 0.0, 0.0]
    assert backend.rewards(scores) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_evidence_may_be_looked_for_in_the_reasoning_or_in_both() -> None:
    assert [s.rubric for s in reward("rubric", text="reasoning").score(GROUP[:2])] == [0.0, 1.0]
    assert [s.rubric for s in reward("rubric", text="both").score(GROUP[:2])] == [1.0, 1.0]


def test_what_is_zeroed_can_be_switched_off() -> None:
    backend = reward("rubric", judge=exact(compare="contains"), ill_formed="score", truncated="score", aborted="score")
    two_tags = request("a\n</think>\n\nb\n</think>\n\nanswer C<|im_end|>")
    scores = backend.score([two_tags, *GROUP[3:]])
    # An answer that never began cannot be judged, whatever the switch.
    assert [(s.outcome, s.zeroed) for s in scores] == [(1.0, ""), (0.0, "ill-formed"), (0.0, ""), (1.0, "")]


def test_a_response_without_an_answer_is_zeroed_as_empty() -> None:
    made = ScoreRequest("s", "?", "C", ("A",), Response("t", None, False, "completed"))
    assert reward("rubric").score([made])[0].zeroed == "empty"


def test_nothing_is_asked_of_a_judge_when_everything_is_zeroed_or_nothing_came() -> None:
    assert reward("rubric").score([]) == []
    assert [s.verdict for s in reward("rubric").score(GROUP[3:])] == [None, None, None]


def test_at_eta_one_no_judge_is_asked() -> None:
    scores = reward("rubric", eta=1.0, scope="all").score(GROUP[:3])
    assert [(s.verdict, s.outcome) for s in scores] == [(None, 0.0)] * 3


def test_chunks_are_scored_by_f_beta_with_the_places_they_are_named_at() -> None:
    raw = "t\n</think>\n\n<useful_chunks><CHUNK_1><CHUNK_9></useful_chunks> C<|im_end|>"
    backend = reward("longrlvr", judge=exact(compare="contains"))
    scores = backend.score([request(raw, rubrics=("1", "2", "3"))])
    assert scores[0].rubric == pytest.approx(5 * 0.5 * (1 / 3) / (4 * 0.5 + 1 / 3))
    assert scores[0].hits == (Hit("1", ((15, 24),)), Hit("2", ()), Hit("3", ()))
    (paid,) = backend.rewards(scores)
    assert paid == pytest.approx(1 + 0.1 * scores[0].rubric + 0.9 * scores[0].rubric)


def test_chunks_may_have_any_number() -> None:
    huge = "1" * 5000
    block = f"<useful_chunks><CHUNK_0{huge}><CHUNK_9></useful_chunks>"
    raw = f"t\n</think>\n\n{block}{'<useful_chunks>' * 20_000} C<|im_end|>"
    (score,) = reward("longrlvr", judge=exact(compare="contains")).score([request(raw, rubrics=(huge, "09"))])
    assert score.rubric == 1.0
    assert score.hits == (Hit(huge, ((15, 5024),)), Hit("09", ((5024, 5033),)))


def test_a_gold_chunk_that_is_no_number_is_a_data_error() -> None:
    with pytest.raises(LtrlError, match="the rubric `A` of sample `sample 1` is not the number of a chunk"):
        reward("longrlvr").score([GROUP[0]])


@settings(max_examples=50)
@given(st.permutations(range(len(GROUP))))
def test_a_permuted_group_gets_the_permuted_rewards(order: list[int]) -> None:
    backend = reward("rubric", judge=exact(**JUDGE))
    rewards = backend.rewards(backend.score(GROUP))
    assert backend.rewards(backend.score([GROUP[i] for i in order])) == [rewards[i] for i in order]


def test_an_alias_counts_in_the_reward() -> None:
    named = dataclasses.replace(GROUP[0], rubrics=("Alpha", "B"), aliases={"Alpha": ("A",)})
    (score,) = reward("rubric", judge=exact(**JUDGE)).score([named])
    assert (score.rubric, score.hits[0]) == (1.0, Hit("Alpha", ((9, 10),)))


def test_an_entity_with_nothing_to_look_for_names_its_sample() -> None:
    with pytest.raises(LtrlError, match=r"the rubric entity `…` has nothing to look for, in sample `sample 1`"):
        reward("rubric").score([dataclasses.replace(GROUP[0], rubrics=("…",))])


def test_a_score_says_why() -> None:
    scores = reward("rubric", judge=exact(**JUDGE)).score(GROUP)
    assert [s.why for s in scores] == [
        "right",
        "right",
        "wrong: `X` is not the label",
        "not judged: ill-formed",
        "not judged: truncated",
        "not judged: aborted",
    ]
    assert [s.why for s in reward("rubric", eta=1.0, scope="all").score(GROUP[:1])] == ["no judge was asked"]
