"""Data sets and batches: names, ``.npz`` files, folders of several formats, tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from .datasets.arrays import Part, as_part
from .datasets.cache import cache_folder
from .datasets.dataset import DataSet, make_dataset
from .datasets.debian import load_fashion_mnist
from .datasets.detect import read_data_folder
from .datasets.digits import load_digits
from .datasets.npz import from_mapping, read_npz
from .datasets.sentences import load_sentences
from .datasets.spoken_digits import load_spoken_digits
from .datasets.text import TABLES, TEXT, read_text
from .datasets.tones import load_tones
from .proxies.batch import Batch
from .proxies.teacher import Teacher
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.modality import ITEMS
from .searchspace.registry import Registry
from .supernet.targets import with_targets
from .supernet.task import task_of

__all__ = [
    "DataSet",
    "Part",
    "data_spec",
    "labelled",
    "list_data",
    "load_batch",
    "load_data",
    "register_data",
]

DataSpec: TypeAlias = str | os.PathLike[str] | tuple[Any, Any] | Mapping[str, Any] | DataSet
DataFactory = Callable[..., DataSet]

DATA: Registry[DataFactory] = Registry("data set")
VAL_FRACTION = 0.1

#: Options of text and sound, and how each is read in a spec.
OPTIONS: dict[str, Callable[[str], Any]] = {"tokenizer": str, "length": int, "seconds": float}

#: Options that registered data sets take.
_TAKES: dict[str, tuple[str, ...]] = {}


def register_data(name: str, takes: tuple[str, ...] = ()) -> Callable[[DataFactory], DataFactory]:
    """Register ``f(*, seed, val_fraction) -> DataSet`` under ``name``.

    Args:
        name: by which :func:`load_data` finds it.
        takes: which of ``tokenizer``, ``length`` and ``seconds`` it is given, too.
    """

    def register(factory: DataFactory) -> DataFactory:
        _TAKES[name] = takes
        return DATA.add(name, factory)

    return register


@register_data("digits")
def _digits(*, seed: int, val_fraction: float) -> DataSet:  # noqa: ARG001 (its split is fixed)
    return load_digits()


@register_data("fashion-mnist")
def _fashion_mnist(*, seed: int, val_fraction: float) -> DataSet:
    return load_fashion_mnist(seed=seed, val_fraction=val_fraction)


register_data("sentences", ("tokenizer", "length"))(load_sentences)
register_data("spoken-digits", ("seconds",))(load_spoken_digits)
register_data("tones", ("seconds",))(load_tones)


def list_data(pattern: str = "*") -> list[str]:
    """Names of the registered data sets that match a shell pattern."""
    return DATA.names(pattern)


def data_spec(
    spec: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    length: int | None = None,
    seconds: float | None = None,
) -> str:
    """A data set and how it is read in one string, which :func:`load_data` takes.

    So that a run whose data are known by a string reads them in the same way again.

    Args:
        spec: a name or a path.
        tokenizer: see :func:`load_data`, as the others.
        length: likewise.
        seconds: likewise.

    Example:
        >>> data_spec("reviews.tsv", length=32)
        'reviews.tsv?length=32'
    """
    plain, asked = _split_spec(os.fspath(spec))
    if tokenizer is not None:
        asked["tokenizer"] = os.fspath(tokenizer)
    asked |= {} if length is None else {"length": length}
    asked |= {} if seconds is None else {"seconds": seconds}
    # Slashes of a path to a tokenizer stay as they are.
    return f"{plain}?{urlencode(asked, safe='/', quote_via=quote)}" if asked else plain


def _split_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """A spec without its options, and those; a file may have a question mark in its name."""
    plain, mark, query = spec.rpartition("?")
    found = parse_qsl(query, keep_blank_values=True)
    if not mark or not found or not {name for name, _ in found} <= OPTIONS.keys():
        return spec, {}
    try:
        return plain, {name: OPTIONS[name](value) for name, value in found}
    except ValueError as error:
        raise InvalidInputError(
            f"data {spec!r}: {query!r} is not understood; length is a whole number, seconds a"
            " number"
        ) from error


def load_data(
    spec: DataSpec,
    *,
    seed: int = 0,
    val_fraction: float = VAL_FRACTION,
    tokenizer: str | os.PathLike[str] | None = None,
    length: int | None = None,
    seconds: float | None = None,
) -> DataSet:
    """Load a data set with its training, validation and test parts apart.

    Grey images are repeated to the three channels that the search spaces expect. All images
    are square and of one size. Sentences become token ids, sound 16-bit samples at 16 kHz, all
    of one length; where they have no classes, a teacher's answers are their labels.

    Args:
        spec: one of

            - a registered name, see :func:`list_data`; ``digits`` is always there,
              ``fashion-mnist``, ``sentences`` and ``spoken-digits`` where the Debian packages
              dataset-fashion-mnist, wordnet-base and espeak-ng are installed;
            - an ``.npz`` file with ``x_train y_train`` and optionally ``x_test y_test``,
              ``x_val y_val``, uint8 ``[N, H, W, C]``;
            - an image folder, ``root/train/<class>/*.png`` with optional ``val`` and
              ``test``, or ``root/<class>/*.png``;
            - a folder with CIFAR-10's or CIFAR-100's batches, Python's or binary; with the
              four IDX files of MNIST; or a Hugging Face data set that was saved to disk;
            - a ``.txt`` file with a sentence a line, a ``.tsv`` or ``.csv`` file with a label
              and a sentence a line, or a folder of ``.txt`` files, classes by folder;
            - a folder of WAV or FLAC files, likewise;
            - a pair of images and labels or a mapping with the keys of an ``.npz`` file,
              tensors or arrays: uint8 ``[N, H, W, C]`` or float ``[N, C, H, W]`` in [0, 1].

            A name or path may end in the options below, as :func:`data_spec` writes them.
        seed: of the split into training and validation part where there is no validation
            part. A missing test part, a tenth, is the same for every seed.
        val_fraction: of the training part, split off where there is no validation part.
        tokenizer: of text: a ``tokenizer.json``, a ``vocab.txt``, a folder with one of them, or
            ``"minilm-l6"``, the default; it has to be the teacher's.
        length: of text: tokens of a sentence at most, default 64, of ``sentences`` 32.
        seconds: of sound: length of a clip, default 1.

    Raises:
        UnknownNameError: if a name is unknown; near ones are offered.
        InvalidInputError: if the data are missing, damaged, empty or of another kind, or an
            option is not theirs.
    """
    given: dict[str, Any] = {"tokenizer": tokenizer, "length": length, "seconds": seconds}
    asked = {name: value for name, value in given.items() if value is not None}
    if isinstance(spec, str):
        spec, told = _split_spec(spec)
        asked = told | asked
    data = _load(spec, asked, seed=seed, val_fraction=val_fraction)
    ours = {"text": ("tokenizer", "length"), "sound": ("seconds",)}.get(data.modality, ())
    if strange := sorted(asked.keys() - set(ours)):
        its = f"; of {data.modality} there is {' and '.join(ours)}" if ours else ""
        raise InvalidInputError(
            f"{strange[0]} = {asked[strange[0]]!r} is no option of data {data.name!r}, which are"
            f" {ITEMS[data.modality]}{its}; leave it out"
        )
    return data


def _load(spec: DataSpec, asked: Mapping[str, Any], *, seed: int, val_fraction: float) -> DataSet:
    if isinstance(spec, DataSet):
        return spec
    if isinstance(spec, Mapping):
        return from_mapping(spec, "tensors", seed=seed, val_fraction=val_fraction)
    if isinstance(spec, tuple | list) and len(spec) == 2:
        part = as_part(*spec, "tensors")
        return make_dataset("tensors", part, None, None, seed=seed, val_fraction=val_fraction)
    if not isinstance(spec, str | os.PathLike):
        raise InvalidInputError(
            f"data of type {type(spec).__name__}; need a name, a path, a pair of images and"
            " labels, or a mapping with x_train and y_train"
        )
    if isinstance(spec, str) and spec in DATA:
        taken = {name: asked[name] for name in _TAKES.get(spec, ()) if name in asked}
        return DATA[spec](seed=seed, val_fraction=val_fraction, **taken)
    path = Path(spec).expanduser()
    options: dict[str, Any] = {"seed": seed, "val_fraction": val_fraction}
    try:
        if path.is_dir():
            return read_data_folder(path, **options, **asked)
        if path.suffix.lower() in TEXT | TABLES and path.is_file():
            asked = {name: value for name, value in asked.items() if name != "seconds"}
            return read_text(path, **options, **asked)
        if path.is_file() or path.suffix.lower() == ".npz":
            return read_npz(path, **options)
    except PermissionError as error:
        raise InvalidInputError(f"data {str(path)!r} cannot be read: {error.strerror}") from error
    if len(path.parts) > 1 or isinstance(spec, os.PathLike):
        raise InvalidInputError(f"data {str(path)!r} does not exist")
    raise UnknownNameError("data set", str(spec), DATA, "An .npz file or a folder works, too.")


def labelled(data: DataSet, teachers: Sequence[Teacher] = ()) -> DataSet:
    """Data with labels: their own, or where nobody made any, the teachers' answers.

    Args:
        data: returned as they are where they have labels.
        teachers: whose answers are learned, see :func:`~scholarch.supernet.targets.with_targets`;
            answers to many inputs are kept, see :func:`~scholarch.datasets.cache.cache_folder`.

    Raises:
        InvalidInputError: if there are neither labels nor a teacher.
    """
    if data.unlabelled and teachers:
        return with_targets(data, teachers, folder=cache_folder() / "targets")
    task_of(data.train.labels, data.name)
    return data


def load_batch(spec: DataSpec | Batch, size: int = 64, seed: int = 0) -> Batch:
    """Draw a batch from the training part of a data set, without replacement.

    Args:
        spec: as :func:`load_data` takes it. A bare pair of images and labels counts as
            training part as a whole. A batch is returned as it is.
        size: how many images, sentences or clips, at least 2.
        seed: of the draw only, never of a split: no seed draws a test image.

    Returns:
        Images float32 ``[size, 3, H, W]`` in [0, 1], labels int64 ``[size]``; mean and
        standard deviation are the training part's. Of text and sound float32 ``[size, 2, 1, L]``,
        the bytes of tokens and samples.

    Raises:
        UnknownNameError: if a name is unknown; near ones are offered.
        InvalidInputError: if the data or the size are not as they should be.

    Example:
        >>> load_batch("digits", size=16, seed=0).images.shape
        torch.Size([16, 3, 32, 32])
    """
    if isinstance(spec, Batch):
        return spec
    if isinstance(spec, tuple | list) and len(spec) == 2:
        part = as_part(*spec, "tensors")
        data = make_dataset("tensors", part, None, None, seed=0, val_fraction=0, test_fraction=0)
    else:
        data = load_data(spec)
    return data.batch(size, seed)
