"""Which format a folder has, and what is said of one that has none; real Fashion-MNIST."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError

#: Where Debian's package dataset-fashion-mnist puts it.
FASHION = Path("/usr/share/datasets/fashion-mnist")


def refused(path: Path, *matches: str) -> str:
    with pytest.raises(InvalidInputError) as caught:
        load_data(path)
    text = str(caught.value)
    assert "\n" not in text
    for match in matches:
        assert match in text
    return text


def test_a_folder_of_no_format_tells_all_of_them(tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        f"data folder {str(tmp_path)!r} has no class folders and no other format's files",
        "CIFAR batches (data_batch_1 or a file train, with .bin or without)",
        "IDX (train-images-idx3-ubyte, .gz or not)",
        "Hugging Face save_to_disk (dataset_dict.json, or state.json)",
        "image folder (train/<class>/*.png or <class>/*.png)",
    )
    assert "did you mean" not in text
    (tmp_path / "cat").mkdir()
    refused(tmp_path, "holds no images in its class folders")


def test_data_one_or_two_folders_below_are_pointed_at(tmp_path: Path) -> None:
    below = tmp_path / "MNIST" / "raw"
    below.mkdir(parents=True)
    (below / "train-images-idx3-ubyte.gz").touch()
    refused(tmp_path, f"did you mean {str(below)!r}?")
    other = tmp_path / "cifar-10-batches-py"
    other.mkdir()
    (other / "data_batch_3").touch()
    refused(tmp_path / "MNIST", f"did you mean {str(below)!r}?")
    other.rename(tmp_path / "A")
    refused(tmp_path, f"did you mean {str(tmp_path / 'A')!r}?")


def test_an_archive_in_the_folder_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "toy.npz").touch()
    refused(tmp_path, f"did you mean {str(tmp_path / 'toy.npz')!r}?")


def test_a_folder_called_train_is_no_cifar_file(tmp_path: Path) -> None:
    for i, name in enumerate(("cat", "dog")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for k in range(9):
            Image.new("RGB", (4, 4), (i, k, 0)).save(tmp_path / "train" / name / f"{k}.png")
    assert load_data(tmp_path).class_names == ("cat", "dog")


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist(tmp_path: Path, zipped: bool) -> None:
    if not FASHION.is_dir():
        pytest.skip("needs Fashion-MNIST, Debian's package dataset-fashion-mnist")
    folder = FASHION
    if not zipped:
        folder = tmp_path
        for file in FASHION.glob("*.gz"):
            (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    data = load_data(folder)
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [54000, 6000, 10000]
    assert data.train.images.shape[1:] == (28, 28, 3), "28×28 stays 28×28"
    assert (data.train.images == data.train.images[..., :1]).all()
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.mean == pytest.approx([0.286] * 3, abs=1e-3), "the usual 0.2860, 0.3530"
    assert data.std == pytest.approx([0.353] * 3, abs=1e-3)
    assert data.batch(16).images.shape == (16, 3, 28, 28)
