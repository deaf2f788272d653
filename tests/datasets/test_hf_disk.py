"""Hugging Face data sets as ``save_to_disk`` writes them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError

# pytest calls this file `datasets.test_hf_disk` and puts a stand-in for its folder where the
# library belongs.
if not hasattr(sys.modules.get("datasets"), "load_from_disk"):
    sys.modules.pop("datasets", None)
hf = pytest.importorskip("datasets", reason="needs the extra hf: the library datasets")

NAMES = ["cat", "dog", "eel"]


def split(n: int, start: int = 0, side: int = 8, mode: str = "RGB", **columns: Any) -> Any:
    """A split whose image i has the value ``start + i`` throughout; the label is i modulo 3."""
    contents = {
        "id": list(range(n)),
        "img": [Image.new("RGB", (side, side), (start + i,) * 3).convert(mode) for i in range(n)],
        "label": [i % 3 for i in range(n)],
    }
    features = {
        "id": hf.Value("int64"),
        "img": hf.Image(),
        "label": hf.ClassLabel(names=NAMES),
    }
    for name, (values, feature) in columns.items():
        contents.pop(name, None)
        features.pop(name, None)
        if feature is not None:
            contents[name], features[name] = values, feature
    return hf.Dataset.from_dict(contents, features=hf.Features(features))


def save(data: Any, path: Path) -> Path:
    (hf.DatasetDict(data) if isinstance(data, dict) else data).save_to_disk(str(path))
    return path


def refused(path: Path, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match) as caught:
        load_data(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(autouse=True)
def _no_progress_bars() -> None:
    hf.disable_progress_bars()


@pytest.mark.parametrize("validation", ["validation", "valid", "val"])
def test_a_dict_of_splits(tmp_path: Path, validation: str) -> None:
    parts = {"train": split(30), validation: split(6, 100), "test": split(9, 200)}
    data = load_data(save(parts, tmp_path / "pets"), seed=3)
    assert (data.name, data.class_names, data.resolution) == ("pets", tuple(NAMES), 8)
    for part, n, start in ((data.train, 30, 0), (data.val, 6, 100), (data.test, 9, 200)):
        assert part.images[:, 0, 0, 0].tolist() == list(range(start, start + n))
        assert part.labels.tolist() == [i % 3 for i in range(n)]


def test_missing_parts_are_split_off(tmp_path: Path) -> None:
    data = load_data(save({"train": split(30), "test": split(9, 200)}, tmp_path / "two"))
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [27, 3, 9]
    single = load_data(save(split(90), tmp_path / "single"))
    assert [len(part.labels) for part in (single.train, single.val, single.test)] == [72, 9, 9]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_images_become_three_channels(tmp_path: Path, mode: str) -> None:
    data = load_data(save({"train": split(9, 7, mode=mode), "test": split(3)}, tmp_path / "d"))
    assert data.train.images.shape[1:] == (8, 8, 3)
    assert 7 in data.train.images[:, 0, 0, 0]


def test_the_fine_labels_of_two(tmp_path: Path) -> None:
    fine = ([i % 2 for i in range(30)], hf.ClassLabel(names=["a", "b"]))
    coarse = ([0] * 30, hf.ClassLabel(names=["all"]))
    columns = {"label": (None, None), "coarse_label": coarse, "fine_label": fine}
    assert load_data(save(split(30, **columns), tmp_path / "d")).class_names == ("a", "b")


def test_columns_that_are_not_there(tmp_path: Path) -> None:
    number = split(9, label=([0] * 9, hf.Value("int64")))
    refused(
        save(number, tmp_path / "a"),
        r"no column of the feature type ClassLabel; need one, see class_encode_column .*"
        r"\(it has id \(int64\), img \(PIL.Image.Image\), label \(int64\)\)",
    )
    refused(save(split(9, img=(None, None)), tmp_path / "b"), "no column of the .* type Image")
    two = {name: ([0] * 9, hf.ClassLabel(names=NAMES)) for name in ("colour", "shape")}
    refused(save(split(9, label=(None, None), **two), tmp_path / "c"), "has 2 columns of")
    other = {"train": split(30), "test": split(9, label=(None, None))}
    refused(save(other, tmp_path / "d"), "test has no column 'label'")
    refused(save({"unsupervised": split(9)}, tmp_path / "e"), "the splits unsupervised; need one")


def test_contents_out_of_range(tmp_path: Path) -> None:
    label = hf.ClassLabel(names=NAMES)
    refused(save(split(3, label=([0, -1, 2], label)), tmp_path / "a"), "row 1: label = -1; need 0")
    refused(save(split(3, label=([0, None, 2], label)), tmp_path / "b"), "row 1: label = None")
    oblong = [Image.new("RGB", (8, 6))] * 3
    refused(save(split(3, img=(oblong, hf.Image())), tmp_path / "c"), "image 0 .*8x6 pixels")
    sizes = [Image.new("RGB", (side, side)) for side in (8, 8, 9)]
    refused(save(split(3, img=(sizes, hf.Image())), tmp_path / "d"), "image 2 .*9x9 pixels")
    broken = [{"bytes": b"no image", "path": None}] * 3
    refused(save(split(3, img=(broken, hf.Image())), tmp_path / "e"), "image 0 .*cannot be read")
    absent = [None] * 3
    refused(save(split(3, img=(absent, hf.Image())), tmp_path / "f"), "image 0 .*is not stored")


def test_damaged_folders(tmp_path: Path) -> None:
    def damaged(name: str, pattern: str, contents: bytes | None) -> None:
        path = save({"train": split(9)}, tmp_path / name)
        (victim,) = path.glob(pattern)
        victim.unlink() if contents is None else victim.write_bytes(contents)
        refused(path, f"{name}' is a damaged Hugging Face data set")

    damaged("a", "dataset_dict.json", b"no json")
    damaged("b", "train/state.json", b"no json")
    damaged("c", "train/state.json", b"{}")
    damaged("d", "train/dataset_info.json", None)
    damaged("e", "train/*.arrow", b"no arrow")
    damaged("f", "train/*.arrow", b"")
    damaged("g", "train/*.arrow", None)


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save({"train": split(9)}, tmp_path / "d")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(path, r"the library 'datasets' is missing; install it with: pip .*scholarch\[hf\]'")
    monkeypatch.setitem(sys.modules, "datasets", types.ModuleType("datasets"))
    refused(path, "the library 'datasets' is hidden by the working folder; start from another")


def test_arrays_are_stored_losslessly(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    whole = split(9, img=([Image.fromarray(image) for image in noise], hf.Image()))
    data = load_data(save({"train": whole, "test": split(3)}, tmp_path / "d"), val_fraction=0.0)
    assert np.array_equal(data.train.images, noise)
