from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

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


def write(path: Path, contents: Arrays) -> Path:
    np.savez(path, **contents)
    return path


def rows(images: npt.NDArray[np.uint8]) -> set[bytes]:
    return {image.tobytes() for image in images}


def assert_apart(data: DataSet) -> None:
    parts = [rows(part.images) for part in (data.train, data.val, data.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


def one_line(error: BaseException) -> None:
    assert "\n" not in str(error)


def test_npz(tmp_path: Path) -> None:
    contents = arrays()
    data = load_data(write(tmp_path / "toy.npz", contents))
    assert data.name == "toy"
    assert len(data.train.labels) == 36
    assert len(data.val.labels) == 4
    assert np.array_equal(data.test.images, contents["x_test"])
    assert rows(data.train.images) | rows(data.val.images) == rows(contents["x_train"])
    assert_apart(data)
    again = load_data(str(tmp_path / "toy.npz"))
    other = load_data(tmp_path / "toy.npz", seed=1)
    assert np.array_equal(data.val.images, again.val.images)
    assert not np.array_equal(data.val.images, other.val.images)
    assert len(load_data(tmp_path / "toy.npz", val_fraction=0.5).val.labels) == 20


def test_npz_with_its_own_validation_part(tmp_path: Path) -> None:
    contents = arrays()
    contents |= {"x_val": contents["x_test"][:5], "y_val": contents["y_test"][:5]}
    data = load_data(write(tmp_path / "toy.npz", contents))
    assert np.array_equal(data.train.images, contents["x_train"])
    assert np.array_equal(data.val.images, contents["x_val"])


def test_grey_images_get_three_equal_channels() -> None:
    with_axis = arrays(channels=1)
    without = with_axis | {key: with_axis[key][..., 0] for key in ("x_train", "x_test")}
    for contents in (with_axis, without):
        data = load_data(contents)
        assert data.train.images.shape[3] == 3
        assert (data.train.images == data.train.images[..., :1]).all()
        assert len(data.mean) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": None, "y_train": None}, "x_train and y_train are missing"),
        ({"y_train": None}, "y_train is missing"),
        ({"x_test": None}, "x_test is missing"),
        ({"x_train": np.zeros((40, 8, 8, 3), np.int32)}, "type int32; need uint8"),
        ({"x_train": np.zeros((40, 192), np.uint8)}, r"shape \[40, 192\]; need \[N, H, W, C\]"),
        ({"x_train": np.zeros((40, 8, 8, 4), np.uint8)}, "with 1 or 3 channels"),
        ({"x_train": np.zeros((40, 8, 6, 3), np.uint8)}, "8x6 pixels; need square ones"),
        ({"x_train": np.zeros((0, 8, 8, 3), np.uint8), "y_train": np.zeros(0, int)}, "no images"),
        ({"x_train": np.full((40, 3, 8, 8), 2.0)}, "span 2 to 2; need 0 to 1"),
        ({"x_train": np.full((40, 3, 8, 8), np.nan)}, "need 0 to 1"),
        ({"x_test": np.zeros((20, 9, 9, 3), np.uint8)}, r"\[8, 8, 3\], test images \[9, 9, 3\]"),
        ({"y_train": np.arange(39)}, "40 images but 39 labels"),
        ({"y_train": np.arange(40) / 2}, "labels of type float64; need whole numbers"),
        ({"y_train": np.eye(40, dtype=int)}, "one class number an image"),
        ({"y_train": np.arange(40) % 4 - 1}, "label -1; need 0 to K - 1"),
        ({"y_train": np.arange(40) % 4 + 1}, "labels span 1 to 4; need 0 to K - 1"),
        ({"y_train": np.arange(40) * 100}, "labels reach 3900 with"),
        ({"y_train": np.zeros(40, int)}, "one class only"),
        ({"y_test": np.full(20, 4)}, "test label 4 is none of the training part's, 0 to 3"),
    ],
)
def test_contents_out_of_range(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    contents: dict[str, Any] = arrays() | change
    contents = {key: value for key, value in contents.items() if value is not None}
    for spec in (contents, write(tmp_path / "toy.npz", contents)):
        if spec is not contents and "missing" in message and len(contents) == 0:
            continue
        with pytest.raises(InvalidInputError, match=message) as caught:
            load_data(spec)
        one_line(caught.value)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(InvalidInputError, match="val_fraction"):
        load_data(arrays(), val_fraction=fraction)


def test_damaged_files(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz", arrays()).read_bytes()
    rng = np.random.default_rng(0)
    broken = [b"", b"\0" * 100, rng.bytes(1000), whole[:10], whole[:500], whole[:-50]]
    # A flipped byte inside an array is caught by the archive's checksum.
    middle = len(whole) // 2
    broken.append(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    for i, contents in enumerate(broken):
        path = tmp_path / f"broken{i}.npz"
        path.write_bytes(contents)
        with pytest.raises(InvalidInputError, match=f"broken{i}.npz' is damaged") as caught:
            load_data(path)
        one_line(caught.value)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    contents = arrays() | {"x_train": np.array([{"run": "me"}] * 40, dtype=object)}
    path = write(tmp_path / "objects.npz", contents)
    with pytest.raises(InvalidInputError, match="pickled Python objects, which are never loaded"):
        load_data(path)
    path.write_bytes(pickle.dumps({"x_train": 1}))
    with pytest.raises(InvalidInputError, match="pickled Python objects, which are never loaded"):
        load_data(path)


def test_other_numpy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InvalidInputError, match="holds one array"):
        load_data(tmp_path / "one.npy")
    path = write(tmp_path / "other.npz", {"jpeg": np.zeros(3), "label": np.zeros(3)})
    with pytest.raises(InvalidInputError, match="holds jpeg, label; need x_train, y_train"):
        load_data(path)
