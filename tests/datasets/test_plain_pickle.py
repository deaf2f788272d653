"""Programs that are no plain data, damaged ones and arbitrary ones: one plain line each."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scholarch.datasets.plain_pickle import parse_plain_pickle
from scholarch.searchspace.errors import InvalidInputError


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"(S'touch x'\nios\nsystem\n.", "an object of a class"),  # INST
        (b"\x80\x02cos\nsystem\nq\x00.", "a reference to os.system"),
        (b"\x80\x02cbuiltins\ngetattr\n.", "a reference to builtins.getattr"),
        (b"\x80\x02\x82\x01.", "more than numbers and text .opcode EXT1"),
        (b"Pid\n.", "more than numbers and text .opcode PERSID"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a call of something that is no function"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "an object of a class"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "a reference to os.system"),
        (b"\x80\x04\x8c\x04a\n\nb\x8c\x01\n\x93.", r"a reference to a\\n\\nb"),
        (b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", "an array of something else"),
        (b"\x80\x02cnumpy\ndtype\nU\x03V99K\x00K\x01\x87R.", "an array of something else"),
        (b"\x80\x02]}b.", "an object with a state of its own"),
        (b"\x80\x02K\x07.", "a int in place of a dict"),
        (b"\x80\x02})K\x01s.", "a dict with keys that are no text"),
    ],
)
def test_hand_made_programs_are_refused_by_name(program: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^the file holds {reason}"):
        parse_plain_pickle(program, "the file")


@pytest.mark.parametrize(
    "program",
    [
        *(b"", b"\x80", b"\x80\x02", b"}", b".", b"\x80\x02.", b"\x80\x02}}.", b"\xff\xff"),
        *(b"t.", b"0.", b"q\x00.", b"}q\x00h\x01.", b"K\x01K\x02s.", b"}(K\x01u.", b"(e."),
        *(b"cnumpy\n.", b"\x8c\xff.", b"B\xff\xff\xff\x7f.", b"T\xff\xff\xff\xff."),
        b"}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rs.",
    ],
)
def test_damaged_programs(program: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"^the file (is damaged|holds)"):
        parse_plain_pickle(program, "the file")


#: A small batch as Python 2 wrote it.
BATCH = (
    b"\x80\x02}q\x01(U\x06labels]q\x05(K\x01K\x02M,\x01eU\x01nNU\x04data"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x0c"
    b"(K\x01(K\x01K\x04tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tbI00\nT\x04\x00\x00\x00abcdtbu."
)


def test_the_small_batch() -> None:
    read = parse_plain_pickle(BATCH, "the file")
    assert read.pop("data").tolist() == [list(b"abcd")]
    assert read == {"labels": [1, 2, 300], "n": None}


@given(st.integers(0, len(BATCH) - 1), st.integers(0, 255), st.booleans())
def test_no_damage_gets_through_as_another_error(place: int, value: int, cut: bool) -> None:
    broken = BATCH[:place] if cut else BATCH[:place] + bytes([value]) + BATCH[place + 1 :]
    with contextlib.suppress(InvalidInputError):
        parse_plain_pickle(broken, "the file")


@given(st.lists(st.sampled_from(b"()}]{lduesabtRq\x00h\x00K\x01U\x01x0N.c\x80\x85\x86\x93")))
def test_no_program_gets_through_as_another_error(program: list[int]) -> None:
    with contextlib.suppress(InvalidInputError):
        parse_plain_pickle(bytes(program) + b".", "the file")
