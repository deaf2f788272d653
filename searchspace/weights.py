"""Checkpoints read without running anything in them, and fitted into networks."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (the error that torch.load raises)
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import InvalidInputError

__all__ = ["Weights", "fit_weights", "read_weights"]

Weights = dict[str, Tensor]

#: Where training scripts put the weights inside a checkpoint, most specific first.
WRAPPERS = (
    *("state_dict_best", "state_dict", "model_state_dict", "model_state"),
    *("model", "net", "params"),
)
#: What wrappers of a network put in front of every key.
PREFIXES = ("module.", "_orig_mod.")
PICKLE_MAGIC = b"\x80"
PICKLED = (
    "is a pickle that could run code, and is not loaded; save the state dict alone,"
    " torch.save(network.state_dict(), FILE), or as .safetensors"
)
#: What a damaged file makes torch.load raise.
DAMAGE = (
    *(RuntimeError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError),
    *(OSError, AssertionError, MemoryError, OverflowError, struct.error, zipfile.BadZipFile),
)


def read_weights(path: Path) -> Weights:
    """The tensors of a checkpoint, on the CPU.

    Args:
        path: ``.safetensors``, or anything ``torch.load(weights_only=True)`` reads. Wrapping
            dictionaries and the prefixes of DataParallel and ``torch.compile`` are taken off.

    Raises:
        InvalidInputError: if the file is missing, damaged, a pickle of more than tensors, or
            holds no state dict.
    """
    what = f"weights file {str(path)!r}"
    if path.is_dir():
        raise InvalidInputError(f"weights {str(path)!r} is a folder; need a file")
    if not path.is_file():
        raise InvalidInputError(f"{what} does not exist")
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                checkpoint: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            with warnings.catch_warnings():
                # Of formats and pickle protocols; what cannot be read is an error below.
                warnings.simplefilter("ignore")
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InvalidInputError(f"{what} cannot be read: {error.strerror}") from error
    except UnpicklingError as error:
        problem = PICKLED if _is_pickle(path, str(error)) else "is damaged or no checkpoint"
        raise InvalidInputError(f"{what} {problem}") from error
    except (SafetensorError, *DAMAGE) as error:
        raise InvalidInputError(f"{what} is damaged or no checkpoint") from error
    weights = _without_prefixes(_tensors(checkpoint, what))
    for key, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InvalidInputError(f"{what}: tensor {key!r} holds values that are not finite")
    return weights


def fit_weights(module: nn.Module, weights: Weights, path: Path, name: str) -> None:
    """Copy weights into a network; all must be there and fit.

    Args:
        module: changed in place.
        weights: by the network's own keys.
        path: where they come from, for messages.
        name: of the network, likewise.

    Raises:
        InvalidInputError: if a tensor is missing, superfluous or of another shape.
    """
    own = module.state_dict()
    counted = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    missing = [key for key in counted if key not in weights]
    extra = [key for key in weights if key not in own]
    what = f"weights file {str(path)!r} does not fit teacher {name!r}:"
    if missing:
        raise InvalidInputError(
            f"{what} {len(missing)} of {len(counted)} tensors are missing, first {missing[0]!r}"
        )
    if extra:
        raise InvalidInputError(
            f"{what} {len(extra)} tensors have no place in it, first {extra[0]!r}"
        )
    for key in counted:
        if weights[key].shape != own[key].shape:
            found, need = list(weights[key].shape), list(own[key].shape)
            raise InvalidInputError(f"{what} tensor {key!r} is {found}, need {need}")
    with torch.no_grad():
        for key, value in weights.items():
            own[key].copy_(value)


def _is_pickle(path: Path, reason: str) -> bool:
    """Whether torch refused a file for what it would call, not for damage."""
    with path.open("rb") as file:
        starts_as_pickle = file.read(1) == PICKLE_MAGIC
    return "Unsupported global" in reason or (starts_as_pickle and "Unsupported operand" in reason)


def _tensors(checkpoint: Any, what: str) -> Weights:
    if isinstance(checkpoint, Mapping):
        for wrapper in WRAPPERS:
            if isinstance(checkpoint.get(wrapper), Mapping):
                return _tensors(checkpoint[wrapper], what)
        weights = {str(k): v for k, v in checkpoint.items() if isinstance(v, Tensor)}
        if weights:
            return weights
    raise InvalidInputError(f"{what} holds no state dict (a mapping of names to tensors)")


def _without_prefixes(weights: Weights) -> Weights:
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            return _without_prefixes({k.removeprefix(prefix): v for k, v in weights.items()})
    return weights
