"""The largest network of a supernet, by itself: what ``train --schedule largest`` was for."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..searchspace.architecture import Architecture
from ..searchspace.errors import InvalidInputError
from ..searchspace.extremes import largest
from .pretrained import FILE, Supernet, load_supernet

__all__ = ["is_run_folder", "largest_network"]


def is_run_folder(path: Path) -> bool:
    """Whether a folder is that of a training run, and of no student."""
    return (path / FILE).is_file() and not (path / "config.json").is_file()


def largest_network(path: Path) -> tuple[nn.Module, Architecture, Supernet]:
    """A supernet's largest network, extracted.

    Args:
        path: the folder of a training run, or its file.

    Returns:
        The network in eval mode, its architecture, and the supernet.

    Raises:
        InvalidInputError: if there is no supernet, or its batch norms have statistics of no
            network in particular.
    """
    supernet = load_supernet(path)
    arch = largest(supernet.space)
    network = supernet.network.extract(arch).eval()
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise InvalidInputError(
            f"{path} holds a supernet whose batch norms are to be calibrated for each network;"
            " search it (scholarch search --supernet) and give the folder of the student"
        )
    return network, arch, supernet
