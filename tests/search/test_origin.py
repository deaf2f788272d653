from __future__ import annotations

import pytest

from scholarch.data import data_spec
from scholarch.search.origin import _read_as


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (["--seed", "1"], ""),
        (["--data", "digits"], "digits"),
        (["--data", "a.txt", "--length", "12"], data_spec("a.txt", length=12)),
        (
            ["--data=a.txt", "--tokenizer", "some where/t.json", "--length=9"],
            data_spec("a.txt", tokenizer="some where/t.json", length=9),
        ),
        (["--data", "clips?seconds=2.0"], data_spec("clips", seconds=2.0)),
        (
            ["--data", "a.txt?tokenizer=t", "--length", "12"],
            data_spec("a.txt", tokenizer="t", length=12),
        ),
    ],
)
def test_data_are_read_again_as_they_were(words: list[str], spec: str) -> None:
    assert _read_as(["scholarch", "search", *words, "--out", "run"]) == spec
