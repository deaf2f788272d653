"""CIFAR's batches as Python 2 and 3 write them, and what must not be run or believed."""

from __future__ import annotations

import collections
import os
import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scholarch.data import load_data
from scholarch.datasets.plain_pickle import parse_plain_pickle
from scholarch.searchspace.errors import InvalidInputError

Pixels = npt.NDArray[np.uint8]
NAMES10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES100 = [f"thing_{i:02}" for i in range(100)]


def pixels(n: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def images(flat: Pixels) -> Pixels:
    return flat.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# ---------------------------------------------------------------------- Python 2's pickles


def old(value: Any) -> bytes:
    """A value in protocol 2 as Python 2 and numpy 1 wrote it, opcode by opcode."""
    if isinstance(value, str):
        raw = value.encode("latin-1")
        return b"U" + bytes([len(raw)]) + raw
    if isinstance(value, bool):
        return b"I01\n" if value else b"I00\n"
    if isinstance(value, int):
        if 0 <= value < 256:
            return b"K" + bytes([value])
        is_short = 0 <= value < 65536
        return b"M" + struct.pack("<H", value) if is_short else b"J" + struct.pack("<i", value)
    if value is None:
        return b"N"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(old, value)) + b"t"
    if isinstance(value, list):
        return b"]q\x05(" + b"".join(map(old, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(old(key) + old(item) for key, item in value.items())
        return b"}q\x01(" + items + b"u"
    assert isinstance(value, np.ndarray)
    raw = value.tobytes()
    new = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
    new += b"K\x00\x85U\x01b\x87Rq\x0c"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87Rq\x10"
    dtype += old((3, "|", None, None, None, -1, -1, 0)) + b"b"
    head = b"(K\x01" + old(tuple(value.shape)) + dtype + b"I00\n"
    return new + head + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"


def python2(value: Any) -> bytes:
    return b"\x80\x02" + old(value) + b"."


def python3(protocol: int, bytes_keys: bool) -> Any:
    def dump(value: dict[str, Any]) -> bytes:
        keyed = {key.encode() if bytes_keys else key: item for key, item in value.items()}
        return pickle.dumps(keyed, protocol)

    return dump


WRITERS = {
    "python2": python2,
    **{
        f"python3-protocol{protocol}-{'bytes' if keys else 'text'}": python3(protocol, keys)
        for protocol in (2, 3, 4, 5)
        for keys in (False, True)
    },
}


def write10(folder: Path, dump: Any = python2, n: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        batch = {
            "batch_label": f"training batch {i + 1} of 5",
            "labels": [(i + k) % 10 for k in range(n)],
            "data": pixels(n, i),
            "filenames": [f"image_{k}.png" for k in range(n)],
        }
        (folder / name).write_bytes(dump(batch))
    (folder / "batches.meta").write_bytes(dump({"num_vis": 3072, "label_names": NAMES10}))
    return folder


def write100(folder: Path, dump: Any = python2) -> Path:
    folder.mkdir(exist_ok=True)
    for i, (name, n) in enumerate((("train", 300), ("test", 100))):
        fine = [(7 * k) % 100 for k in range(n)]
        batch = {
            "filenames": [],
            "batch_label": name,
            "fine_labels": fine,
            "coarse_labels": [label // 5 for label in fine],
            "data": pixels(n, i),
        }
        (folder / name).write_bytes(dump(batch))
    meta = {"fine_label_names": NAMES100, "coarse_label_names": NAMES100[:20]}
    (folder / "meta").write_bytes(dump(meta))
    return folder


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize("writer", WRITERS)
def test_cifar10_python_batches(tmp_path: Path, writer: str) -> None:
    data = load_data(write10(tmp_path / "cifar-10-batches-py", WRITERS[writer]))
    assert data.name == "cifar-10-batches-py"
    assert data.class_names == tuple(NAMES10)
    assert [len(part.labels) for part in (data.train, data.val, data.test)] == [90, 10, 20]
    assert np.array_equal(data.test.images, images(pixels(20, 5)))
    assert data.test.labels.tolist() == [(5 + k) % 10 for k in range(20)]
    given_images = np.concatenate([images(pixels(20, i)) for i in range(5)])
    label_of = {image.tobytes(): (i // 20 + i % 20) % 10 for i, image in enumerate(given_images)}
    for part in (data.train, data.val):
        assert [label_of.pop(image.tobytes()) for image in part.images] == part.labels.tolist()
    assert not label_of


@pytest.mark.parametrize("writer", WRITERS)
def test_cifar100_python_batches(tmp_path: Path, writer: str) -> None:
    data = load_data(write100(tmp_path / "cifar-100-python", WRITERS[writer]), val_fraction=0.0)
    assert (data.num_classes, data.class_names) == (100, tuple(NAMES100))
    assert np.array_equal(data.train.images, images(pixels(300, 0)))
    assert data.train.labels.tolist() == [(7 * k) % 100 for k in range(300)], "the fine labels"


def test_the_seed_splits_train_and_leaves_test_alone(tmp_path: Path) -> None:
    folder = write10(tmp_path / "c")
    first, other = load_data(folder, seed=0), load_data(folder, seed=1)
    assert not np.array_equal(first.val.images, other.val.images)
    assert np.array_equal(first.test.images, other.test.images)


def test_binary_batches(tmp_path: Path) -> None:
    ten, hundred = tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-100-binary"
    ten.mkdir()
    for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
        labels = np.arange(20, dtype=np.uint8)[:, None] % 10
        (ten / name).write_bytes(np.hstack([labels, pixels(20, i)]).tobytes())
    (ten / "batches.meta.txt").write_text("\n".join(NAMES10) + "\n\n")
    data = load_data(ten)
    assert data.class_names == tuple(NAMES10)
    assert np.array_equal(data.test.images, images(pixels(20, 5)))
    assert data.test.labels.tolist() == [k % 10 for k in range(20)]

    hundred.mkdir()
    for i, name in enumerate(("train.bin", "test.bin")):
        fine = np.arange(200, dtype=np.uint8)[:, None] % 100
        (hundred / name).write_bytes(np.hstack([fine // 5, fine, pixels(200, i)]).tobytes())
    data = load_data(hundred)
    assert data.num_classes == 100
    assert data.test.labels.tolist() == [k % 100 for k in range(200)], "the fine labels"
    assert data.class_names is None, "without the file of names"

    path = hundred / "train.bin"
    for damaged in (b"", path.read_bytes()[:-1]):
        path.write_bytes(damaged)
        refused(hundred, "train.bin' is damaged: [0-9,]+ bytes are no multiple of 3,074")


def test_python2_batches_are_what_python_reads(tmp_path: Path) -> None:
    """The hand-made Python 2 pickle is a pickle: Python's own loader reads the same from it."""
    path = write10(tmp_path / "c") / "data_batch_1"
    truth = pickle.loads(path.read_bytes(), encoding="latin1")
    mine = parse_plain_pickle(path.read_bytes(), "the batch")
    assert list(mine) == list(truth)
    assert np.array_equal(mine["data"], truth["data"])
    assert mine["labels"] == truth["labels"]


# ---------------------------------------------------------------------- refusals


def refused(folder: Path, match: str) -> None:
    with pytest.raises(InvalidInputError, match=match) as caught:
        load_data(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))


class Evil:
    """Whatever a pickle may call when it is loaded."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.name}.system"),
        (subprocess.check_output, "(subprocess|commands).check_output"),
        (eval, "builtins.eval|__builtin__.eval"),
        (collections.OrderedDict, "collections.OrderedDict"),
    ],
)
def test_nothing_in_a_pickle_is_run(
    tmp_path: Path, protocol: int, function: Any, name: str
) -> None:
    folder, proof = write10(tmp_path / "c"), tmp_path / "it-ran"
    argument = f"open({str(proof)!r}, 'w')" if function is eval else f"touch '{proof}'"
    evil = Evil(function, *([] if function is collections.OrderedDict else [argument]))
    for contents in (evil, {"data": pixels(2, 0), "labels": evil}, {"labels": [0], evil: "data"}):
        (folder / "data_batch_3").write_bytes(pickle.dumps(contents, protocol))
        refused(folder, f"data_batch_3' holds a reference to ({name}); only plain data is read")
    assert not proof.exists()


def test_a_list_that_unfolds_is_not_unfolded(tmp_path: Path) -> None:
    """Two to the hundred numbers in three hundred bytes."""
    folder = write10(tmp_path / "c")
    bomb: list[Any] = [0]
    for _ in range(100):
        bomb = [bomb, bomb]
    for key in ("labels", "data", "label_names"):
        contents = {"labels": [0], "data": pixels(1, 0), "label_names": NAMES10, key: bomb}
        name = "batches.meta" if key == "label_names" else "test_batch"
        (folder / name).write_bytes(pickle.dumps(contents, 2))
        refused(folder, f"{name}'")
        write10(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, r"test_batch' has no 'labels' \(it holds data\)"),
        ({"data": None}, r"has no 'data' \(it holds labels\)"),
        ({"labels": [0, 1]}, "3 images but 2 labels"),
        ({"labels": [0, 1, 10]}, "a label lies outside 0 to 9"),
        ({"labels": [0, 1, -1]}, "a label lies outside 0 to 9"),
        ({"labels": [0, 1, 10**6000]}, "a label lies outside 0 to 9"),
        ({"labels": [0, 1, 2.0]}, "labels are no list of whole numbers"),
        ({"labels": "012"}, "labels are no list of whole numbers"),
        ({"data": [1, 2]}, "data is no array of bytes"),
        ({"data": np.zeros((3, 3072))}, "data is no array of bytes"),
        ({"data": np.zeros((3, 192), np.uint8)}, "images of 192 bytes; need 3072"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "no images"),
    ],
)
def test_contents_out_of_range(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = write10(tmp_path / "c")
    contents = {"labels": [0, 1, 2], "data": pixels(3, 0)} | change
    contents = {key: value for key, value in contents.items() if value is not None}
    for protocol in (2, 5):
        (folder / "test_batch").write_bytes(pickle.dumps(contents, protocol))
        refused(folder, message)


def test_labels_as_an_array(tmp_path: Path) -> None:
    folder = write10(tmp_path / "c")
    contents = {"labels": np.array([3, 1, 2]), "data": np.asfortranarray(pixels(3, 9))}
    for protocol in (2, 5):
        (folder / "test_batch").write_bytes(pickle.dumps(contents, protocol))
        data = load_data(folder)
        assert data.test.labels.tolist() == [3, 1, 2]
        assert np.array_equal(data.test.images, images(pixels(3, 9)))


def test_missing_and_truncated_files(tmp_path: Path) -> None:
    folder = write10(tmp_path / "c")
    whole = (folder / "data_batch_2").read_bytes()
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        (folder / "data_batch_2").write_bytes(whole[:end])
        refused(folder, "data_batch_2' is damaged or no pickle of plain data")
    (folder / "data_batch_2").unlink()
    refused(folder, "data_batch_2' does not exist")
    (folder / "data_batch_2").write_bytes(whole)
    (folder / "batches.meta").write_bytes(python2({"label_names": NAMES10[:9]}))
    refused(folder, "batches.meta' names 9 classes; need 10")
    (folder / "batches.meta").unlink()
    assert load_data(folder).class_names is None
