from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from scholarch.data import DataSet, load_data
from scholarch.searchspace.errors import InvalidInputError

Arrays = dict[str, npt.NDArray[Any]]


def arrays(n: int = 40, classes: int = 4, side: int = 8, channels: int = 3) -> Arrays:
    """Images whose bytes are all their own, so that parts can be compared."""
    rng = np.random.default_rng(0)
    make = lambda count: rng.integers(0, 256, (count, side, side, channels), dtype=np.uint8)  # noqa: E731
    return {
        "x_train": make(n),
        "y_train": np.arange(n) % classes,
        "x_test": make(n // 2),
        "y_test": np.arange(n // 2) % classes,
    }


def rows(images: npt.NDArray[np.uint8]) -> set[bytes]:
    return {image.tobytes() for image in images}


def assert_apart(data: DataSet) -> None:
    parts = [rows(part.images) for part in (data.train, data.val, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def one_line(error: BaseException) -> None:
    assert "\n" not in str(error)


def make_folder(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            image.save(root / name / f"{i:02}.png")
    return root


def test_image_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".cache").mkdir()
    data = load_data(tmp_path / "pets")
    assert (data.name, data.class_names, data.num_classes) == ("pets", ("cat", "dog"), 2)
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [16, 2, 2]
    assert_apart(data)
    first = np.asarray(Image.open(tmp_path / "pets" / "cat" / "00.png"))
    everything = np.concatenate([data.train.images, data.val.images, data.test.images])
    assert first.tobytes() in rows(everything)


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_image_folder_with_parts(tmp_path: Path, validation: str) -> None:
    for part in ("train", validation, "test"):
        make_folder(tmp_path / part, count=3)
    data = load_data(str(tmp_path))
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [6, 6, 6]
    (tmp_path / "test" / "eel").mkdir()
    with pytest.raises(InvalidInputError, match=r"class folder 'eel' of .*test' is missing in"):
        load_data(tmp_path)


def test_grey_and_palette_images_become_three_channels(tmp_path: Path) -> None:
    make_folder(tmp_path)
    Image.new("L", (6, 6), 7).save(tmp_path / "cat" / "grey.png")
    Image.new("P", (6, 6)).save(tmp_path / "cat" / "palette.png")
    data = load_data(tmp_path)
    assert data.train.images.shape[1:] == (6, 6, 3)


def test_image_folder_refusals(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(InvalidInputError, match=match) as caught:
            load_data(tmp_path)
        one_line(caught.value)

    refused("has no class folders")
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    refused("holds no images")
    Image.new("RGB", (6, 4)).save(tmp_path / "cat" / "a.png")
    refused("6x4 pixels; need square ones")
    Image.new("RGB", (6, 6)).save(tmp_path / "cat" / "b.png")
    refused(r"b.png' is 6x6 pixels, .*a.png' is 6x4; resize all images to one size")
    (tmp_path / "cat" / "a.png").write_bytes((tmp_path / "cat" / "b.png").read_bytes()[:40])
    refused("image '.*a.png' cannot be read")
    (tmp_path / "cat" / "a.png").write_text("no image at all")
    refused("image '.*a.png' cannot be read")


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape)
    return head + array.tobytes()


def test_idx(tmp_path: Path) -> None:
    contents = arrays(channels=1)
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = idx(contents[f"x_{part}"][..., 0])
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        labels = idx(contents[f"y_{part}"].astype(np.uint8))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)
    data = load_data(tmp_path)
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [36, 4, 20]
    assert np.array_equal(data.test.images[..., :1], contents["x_test"])
    labels_path = tmp_path / "train-labels-idx1-ubyte"
    for damage in (b"", labels_path.read_bytes()[:-1], b"\0\0\x08\xff" + b"\0" * 9):
        labels_path.write_bytes(damage)
        with pytest.raises(InvalidInputError, match="train-labels-idx1-ubyte' is damaged"):
            load_data(tmp_path)
    labels_path.unlink()
    with pytest.raises(InvalidInputError, match="train-labels-idx1-ubyte' does not exist"):
        load_data(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(InvalidInputError, match=r"train-images-idx3-ubyte.gz' is damaged"):
        load_data(tmp_path)
