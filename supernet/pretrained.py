"""A trained supernet in one file, and the network that is read from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError
from ..searchspace.factory import create_space
from ..searchspace.files import write_atomic
from ..searchspace.space import SearchSpace
from .checkpoint import FORMAT, KEY, VERSION, load_network, read_checkpoint
from .trainer import Trainer

__all__ = [
    "FILE",
    "Supernet",
    "load_supernet",
    "save_supernet",
    "write_supernet",
]


FILE = "supernet.safetensors"
"""Of the network to be used, in the folder of a run."""


@dataclass(frozen=True, eq=False)
class Supernet:
    """A trained weight-shared network.

    Attributes:
        space: whose architectures it holds.
        network: elastic, in eval mode; batch norm's statistics are to be calibrated for each
            architecture.
        about: settings and how far it was trained.
        path: of the file; ``None`` where nothing was kept.
    """

    space: SearchSpace
    network: ElasticNetwork
    about: dict[str, Any]
    path: Path | None


def save_supernet(trainer: Trainer, path: Path) -> None:
    """Write the network as it stands, without what only training needs.

    Raises:
        StoreError: if the disk is full; what was there before stays.
    """
    about = {
        "settings": trainer.settings.to_json(),
        "data": {
            "name": trainer.data.name,
            "mean": list(trainer.data.mean),
            "std": list(trainer.data.std),
            "resolution": trainer.data.resolution,
            # Who searches has to choose on images that nothing was trained on.
            **trainer.fingerprints,
        },
        "next_step": trainer.next_step,
        "steps": trainer.plan.steps,
        "macs_passed": trainer.macs_passed,
    }
    write_supernet(trainer.space, trainer.network, path, about)


def write_supernet(
    space: SearchSpace, network: ElasticNetwork, path: Path, about: Mapping[str, Any]
) -> None:
    """Write a network of a space as the file that :func:`load_supernet` reads.

    Args:
        space: whose network.
        network: trained.
        path: of the file.
        about: plain data about its training.

    Raises:
        StoreError: if the disk is full; what was there before stays.
    """
    from safetensors.torch import save

    meta = {"format": FORMAT, "version": VERSION, "space": space.spec(), **about}
    state = {
        f"net.{name}": t.detach().cpu().clone().contiguous()
        for name, t in network.state_dict().items()
    }
    write_atomic(path, save(state, metadata={KEY: json.dumps(meta)}))


def load_supernet(path: str | Path) -> Supernet:
    """Read a trained supernet.

    Args:
        path: what :func:`save_supernet` wrote, or the folder of a training run.

    Raises:
        InvalidInputError: if it is missing, damaged or of a space that is not known here.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise InvalidInputError(
            f"no supernet at {path}; give the folder of a run of scholarch train that has been"
            " evaluated once, or its supernet.safetensors"
        )
    tensors, meta = read_checkpoint(path)
    space = create_space(**meta["space"])
    network = space.supernet()
    load_network(network, tensors, path)
    return Supernet(space, network.eval(), meta, path)
