"""The C library's search finds what CPython's finds."""

from __future__ import annotations

import gc
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrl.scoring import ReferenceMatcher, WordsMatcher
from ltrl.scoring.finder import finder

FEW = st.binary(max_size=400).map(lambda data: bytes(b"ab\xc3\xa9 "[byte % 5] for byte in data))


@given(FEW | st.binary(max_size=300), FEW.map(lambda b: b[:6]).filter(bool), st.integers(0, 500))
def test_a_place_is_the_one_that_cpython_finds(data: bytes, wanted: bytes, start: int) -> None:
    assert finder(data)(wanted, start) == data.find(wanted, start)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 4095, 4096, 150_000])
@pytest.mark.parametrize("wanted", [b"x", b"xy", b"Mothersbaugh", b"a" * 40 + b"x"])
def test_a_place_at_either_end_of_a_text_is_found(size: int, wanted: bytes) -> None:
    for data in (b"a" * size, b"a" * size + wanted, wanted + b"a" * size, b"a" * size + wanted[:-1]):
        assert finder(data)(wanted, 0) == data.find(wanted)


def test_a_text_outlives_whoever_made_it() -> None:
    find = finder(b"ab" * 50_000 + bytes([120, 121]))
    gc.collect()
    kept = [b"xy" * 50_000 for _ in range(50)]
    assert find(b"xy", 0) == 100_000
    assert len(kept) == 50


def test_a_zero_byte_ends_no_text() -> None:
    text = "a\0" * 500 + " Zaha Hadid \0 Solent"
    assert finder(text.encode())(b"Solent", 0) == text.index("Solent")
    for matcher in (ReferenceMatcher(), WordsMatcher()):
        hits = matcher.hits(text, ("Zaha Hadid", "Solent", "\0 Poker"))
        assert [text[slice(*span)] for hit in hits for span in hit.spans] == ["Zaha Hadid", "Solent"]


@pytest.mark.skipif(sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="another C library")
def test_the_c_library_is_used_where_there_is_one() -> None:
    assert finder(b"text") != b"text".find
    assert finder(b"te\0xt") == b"te\0xt".find
