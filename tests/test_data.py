from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scholarch.data import DATA, DataSet, list_data, load_batch, load_data, register_data
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError

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


def test_digits() -> None:
    data = load_data("digits")
    assert data.name == "digits"
    assert data.num_classes == 10
    assert data.resolution == 32
    assert data.class_names == tuple("0123456789")
    assert sum(len(part.labels) for part in (data.train, data.val, data.test)) == 1797
    assert data.train.images.dtype == np.uint8
    assert data.train.images.shape[1:] == (32, 32, 3)
    assert data.train.images.max() == 255
    assert_apart(data)
    for part in (data.train, data.val, data.test):
        assert set(part.labels.tolist()) == set(range(10))
    # Each of the 8×8 pixels is a block of 4×4, equal in the three channels.
    blocks = data.train.images.reshape(-1, 8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()


def test_the_split_of_digits_is_the_same_for_every_seed() -> None:
    first, second = load_data("digits", seed=0), load_data("digits", seed=5)
    assert np.array_equal(first.train.images, second.train.images)


def test_moments_are_those_of_the_training_part() -> None:
    data = load_data("digits")
    scaled = data.train.images.astype(np.float64) / 255.0
    assert data.mean == pytest.approx(scaled.mean(axis=(0, 1, 2)).tolist(), abs=1e-9)
    assert data.std == pytest.approx(scaled.std(axis=(0, 1, 2)).tolist(), abs=1e-9)


def test_a_batch_is_drawn_from_the_training_part_without_replacement() -> None:
    data = load_data(arrays())
    batch = data.batch(len(data.train.labels), seed=3)
    drawn = (batch.images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    assert rows(drawn) == rows(data.train.images)
    assert batch.images.dtype == torch.float32
    assert batch.num_classes == 4
    assert (batch.mean, batch.std, batch.name) == (data.mean, data.std, "tensors")
    label_of = {image.tobytes(): label for image, label in zip(*data.train, strict=True)}
    assert [label_of[image.tobytes()] for image in drawn] == batch.labels.tolist()


def test_a_seed_repeats_a_batch() -> None:
    first, again, other = (load_batch("digits", size=16, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.images.shape == (16, 3, 32, 32)


def test_no_seed_draws_a_test_image(tmp_path: Path) -> None:
    contents = arrays()
    del contents["x_test"], contents["y_test"]
    path = write(tmp_path / "only-train.npz", contents)
    held_out = rows(load_data(path).test.images)
    assert held_out
    for seed in range(20):
        batch = load_batch(path, size=32, seed=seed)
        drawn = (batch.images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        assert not rows(drawn) & held_out
        assert rows(load_data(path, seed=seed).test.images) == held_out


def test_load_batch_takes_whatever_load_data_takes() -> None:
    data = load_data("digits")
    assert load_batch(data, 8, 0).fingerprint == load_batch("digits", 8, 0).fingerprint
    batch = load_batch("digits", 8, 0)
    assert load_batch(batch) is batch
    pair = load_batch((data.train.images[:10], data.train.labels[:10]), size=10)
    assert len(pair) == 10, "a bare pair is training data as a whole"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (1, "batch size 1; need a whole number of at least 2"),
        (-4, "batch size -4"),
        (2.5, "batch size 2.5"),
        (True, "batch size True"),
        (99999, r"batch size 99999 exceeds the 1295 training images of 'digits'; choose at most"),
    ],
)
def test_batch_sizes_out_of_range(size: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_batch("digits", size=size)
    one_line(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_seeds_out_of_range(seed: Any) -> None:
    with pytest.raises(InvalidInputError, match="seed"):
        load_batch("digits", size=4, seed=seed)


def test_float_tensors_and_bytes_mean_the_same() -> None:
    contents = arrays()
    bytes_pair = (contents["x_train"], contents["y_train"])
    floats = torch.from_numpy(contents["x_train"]).permute(0, 3, 1, 2).float() / 255.0
    for images in (floats, floats.double(), floats.permute(0, 2, 3, 1), floats.numpy()):
        data = load_data((images, torch.from_numpy(contents["y_train"])))
        assert np.array_equal(data.train.images, load_data(bytes_pair).train.images)
    assert_apart(data)
    assert len(data.test.labels) == len(data.val.labels) == 4


@pytest.mark.parametrize("spec", [3, None, (1, 2, 3), [np.zeros(3)]])
def test_other_types(spec: Any) -> None:
    with pytest.raises(InvalidInputError, match="need a name, a path") as caught:
        load_data(spec)
    one_line(caught.value)


def test_rows_of_unequal_length() -> None:
    with pytest.raises(InvalidInputError, match="tensors"):
        load_data(([[1, 2], [3]], [0, 1]))


def test_unknown_names_and_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown data set 'digit'; did you mean digits"):
        load_data("digit")
    with pytest.raises(InvalidInputError, match=r"data file 'nowhere.npz' does not exist"):
        load_data("nowhere.npz")
    for spec in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(InvalidInputError, match="nowhere' does not exist") as caught:
            load_data(spec)
        one_line(caught.value)


def test_plugins_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATA, "_items", dict(DATA._items))

    @register_data("mine")
    def mine(*, seed: int, val_fraction: float) -> DataSet:
        return load_data(arrays(), seed=seed, val_fraction=val_fraction)

    assert list_data("m*") == ["mine"]
    assert len(load_data("mine", val_fraction=0.5).val.labels) == 20
    with pytest.raises(InvalidInputError, match="already registered"):
        register_data("digits")(mine)


def test_cifar10(data_dir: Path) -> None:
    data = load_data(data_dir / "cifar10_5k.npz")
    assert (data.num_classes, data.resolution) == (10, 32)
    assert len(data.train.labels) + len(data.val.labels) == 4000
    assert len(data.test.labels) == 1000
    assert data.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.01)
    assert load_batch(data_dir / "cifar10_5k.npz").images.shape == (64, 3, 32, 32)


def test_options_travel_in_the_spec(tmp_path: Path) -> None:
    from scholarch.data import data_spec

    assert data_spec("digits") == "digits"
    spec = data_spec("a?b.txt", tokenizer=tmp_path / "a b", length=12)
    assert spec == f"a?b.txt?tokenizer={tmp_path}/a%20b&length=12"
    assert data_spec(spec, length=3) == f"a?b.txt?tokenizer={tmp_path}/a%20b&length=3"
    assert data_spec("clips", seconds=0.5) == "clips?seconds=0.5"
    with pytest.raises(InvalidInputError, match="length is a whole number") as caught:
        load_data("sentences?length=many")
    one_line(caught.value)
    # No option of ours: a file may be called so.
    with pytest.raises(InvalidInputError, match=r"x/a\?b=c' does not exist"):
        load_data("x/a?b=c")
