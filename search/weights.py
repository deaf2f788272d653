"""The networks of a front found on a trained supernet, as they were measured.

Their weights are the supernet's; what is each network's own are its batch norms' calibrated
statistics. Those alone are kept, so that a front of a hundred networks is a small file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError
from ..searchspace.files import write_atomic
from ..supernet.pretrained import load_supernet

__all__ = ["FrontWeights", "weights_fingerprint"]


def weights_fingerprint(network: nn.Module) -> str:
    """Hash of a network's parameters and buffers, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class FrontWeights:
    """Makes the networks of a front again, bit for bit as they were evaluated.

    Args:
        network: gives the supernet, once it is needed.
    """

    def __init__(self, network: Callable[[], ElasticNetwork]) -> None:
        self._source = network
        self._network: ElasticNetwork | None = None
        self._statistics: dict[str, dict[str, Tensor]] = {}

    @staticmethod
    def nowhere() -> FrontWeights:
        """Of a run that kept none: every network is refused."""
        return FrontWeights(lambda: _again(None, ""))

    def keep(self, arch: Architecture, network: nn.Module) -> None:
        """Remember the calibrated statistics of an extracted network."""
        self._statistics[arch.key] = {
            name: tensor.detach().cpu().clone() for name, tensor in network.named_buffers()
        }

    def module(self, arch: Architecture) -> nn.Module:
        """The extracted network in eval mode, on the CPU.

        Raises:
            InvalidInputError: if it is not of the front, or the supernet is not where it was.
        """
        if arch.key not in self._statistics:
            raise InvalidInputError(
                f"the run keeps the networks of its front alone, {arch.text!r} is not among them;"
                " if the run was stopped, run the same command to go on"
            )
        if self._network is None:
            self._network = self._source()
        plain = self._network.extract(arch).cpu()
        buffers = dict(plain.named_buffers())
        for name, tensor in self._statistics[arch.key].items():
            buffers[name].copy_(tensor)
        return plain.eval()

    def write(self, path: Path) -> None:
        """Write the statistics.

        Raises:
            StoreError: if the file cannot be written.
        """
        from safetensors.torch import save

        flat = {
            f"{key}/{name}": tensor
            for key, named in self._statistics.items()
            for name, tensor in named.items()
        }
        # Networks without batch norm have no statistics: their keys are told all the same.
        write_atomic(path, save(flat, metadata={"keys": ",".join(self._statistics)}))

    @staticmethod
    def read(path: Path, supernet: Mapping[str, Any]) -> FrontWeights:
        """What :meth:`write` wrote.

        Args:
            path: of the file; where there is none, no network can be made.
            supernet: ``path`` of the supernet and its ``fingerprint``, both checked when a
                network is asked for.

        Raises:
            InvalidInputError: if the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        weights = FrontWeights(lambda: _again(supernet["path"], supernet["fingerprint"]))
        if not path.exists():
            return weights
        try:
            with safe_open(path, framework="pt") as file:
                keys = (file.metadata() or {})["keys"].split(",")
                weights._statistics = {key: {} for key in keys if key}
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    key, _, buffer = name.partition("/")
                    weights._statistics[key][buffer] = file.get_tensor(name)
        except (OSError, SafetensorError, KeyError) as error:
            raise InvalidInputError(
                f"{path} is damaged: {error}; delete it and run the same command again"
            ) from error
        return weights


def _again(path: str | None, fingerprint: str) -> ElasticNetwork:
    """The supernet of a run that is read back."""
    if path is None:
        raise InvalidInputError(
            "the weights are those of a supernet that was never written; train it with out=,"
            " or use the run's student folder, which is whole"
        )
    if not Path(path).is_file():
        raise InvalidInputError(
            f"the weights are those of the supernet {path}, which is not there any more; put it"
            " back, or use the run's student folder, which is whole"
        )
    network = load_supernet(path).network
    if (found := weights_fingerprint(network)) != fingerprint:
        raise InvalidInputError(
            f"the supernet {path} is another than the run's ({found} there, {fingerprint} here);"
            " put that one back, or use the run's student folder, which is whole"
        )
    return network
