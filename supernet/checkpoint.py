"""A trainer's whole state in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import write_atomic
from .trainer import Trainer

__all__ = [
    "FORMAT",
    "KEY",
    "VERSION",
    "load_network",
    "read_checkpoint",
    "restore",
    "save_checkpoint",
]

FORMAT = "scholarch-supernet"
VERSION = 1
KEY = "scholarch"


def save_checkpoint(trainer: Trainer, path: Path, **extra: Any) -> None:
    """Write everything that a resume needs, bit for bit.

    Args:
        trainer: between two steps.
        path: of the file.
        **extra: plain data kept with it.

    Raises:
        StoreError: if the disk is full; what was there before stays.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {f"net.{k}": v for k, v in trainer.network.state_dict().items()}
    flat = trainer.flat
    for name, memory in trainer.memory.tensors.items():
        tensors |= {f"{name}.{k}": v for k, v in flat.views(memory).items()}
    if trainer.average is not None:
        tensors |= {f"average.{k}": v for k, v in flat.views(trainer.average).items()}
    if trainer.frozen is not None:
        tensors |= {f"frozen.{k}": v for k, v in trainer.frozen.state_dict().items()}
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "space": trainer.space.spec(),
        "settings": trainer.settings.to_json(),
        "world": trainer.world.size,
        "next_step": trainer.next_step,
        "steps": trainer.plan.steps,
        "macs_passed": trainer.macs_passed,
        **extra,
    }
    # A copy each: views of one flat tensor share storage, which the format refuses.
    state = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    write_atomic(path, save(state, metadata={KEY: json.dumps(meta)}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and the plain data.

    Raises:
        InvalidInputError: if the file is missing, damaged or no such checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if meta["format"] != FORMAT or meta["version"] != VERSION:
            raise InvalidInputError(
                f"{path} is a {meta['format']} of version {meta['version']}; need {FORMAT},"
                f" version {VERSION}"
            )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{path} is no checkpoint of a supernet, or damaged: {error}"
        ) from error
    return tensors, meta


def restore(trainer: Trainer, path: Path) -> dict[str, Any]:
    """Put a trainer where it was when :func:`save_checkpoint` wrote the file.

    Args:
        trainer: new, of equal space, settings and world.
        path: of the file.

    Returns:
        The plain data.

    Raises:
        InvalidInputError: if the checkpoint is of another space, settings or world.
    """
    tensors, meta = read_checkpoint(path)
    ours = json.loads(
        json.dumps([trainer.space.spec(), trainer.settings.to_json(), trainer.world.size])
    )
    names = ("space", "settings", "world")
    for name, mine in zip(names, ours, strict=True):
        if meta[name] != mine:
            raise InvalidInputError(
                f"{path} is of another run: {_difference(name, meta[name], mine)}"
            )
    load_network(trainer.network, tensors, path)
    flat = trainer.flat
    for name, memory in trainer.memory.tensors.items():
        copy_named(flat.views(memory), tensors, f"{name}.", path)
    if trainer.average is not None:
        copy_named(flat.views(trainer.average), tensors, "average.", path)
    frozen = {k.removeprefix("frozen."): t for k, t in tensors.items() if k.startswith("frozen.")}
    if frozen:
        plain = trainer.network.extract(trainer.drawer.largest)
        plain.load_state_dict(frozen)
        trainer.frozen = plain.to(trainer.device).eval().requires_grad_(requires_grad=False)
    trainer.next_step = int(meta["next_step"])
    trainer.memory.at(trainer.next_step)
    trainer.costs.passed = float(meta["macs_passed"])
    return meta


def load_network(network: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a checkpoint's network into one of the same space.

    Raises:
        InvalidInputError: if a tensor is missing or of another shape.
    """
    copy_named(network.state_dict(), tensors, "net.", path)


def copy_named(
    into: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, path: Path
) -> None:
    """Copy tensors by name, all or a refusal.

    Raises:
        InvalidInputError: if one is missing or of another shape.
    """
    for name, tensor in into.items():
        given = tensors.get(prefix + name)
        if given is None:
            raise InvalidInputError(f"{path} has no {prefix}{name}; it is of another space")
        if given.shape != tensor.shape:
            raise InvalidInputError(
                f"{path}: {prefix}{name} has the shape {tuple(given.shape)}, this space's"
                f" network has {tuple(tensor.shape)}; its width_mult or classes are others"
            )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(tensors[prefix + name])


def _difference(name: str, theirs: Any, ours: Any) -> str:
    """The first entries that differ, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = [k for k in {**theirs, **ours} if theirs.get(k) != ours.get(k)]
        return "; ".join(f"{k} is {theirs.get(k)!r} there and {ours.get(k)!r} here" for k in keys)
    return f"{name} is {theirs!r} there and {ours!r} here"
