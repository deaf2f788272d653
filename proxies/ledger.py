"""What proxies measure as blocks are run, settled together: eigenvalues in batches, one transfer.

On a GPU every number that Python looks at waits for all that was queued, and the eigenvalues
of one small matrix take about as long as those of hundreds. On a CPU it saves calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from .block import BlockProbe

__all__ = ["Formula", "Ledger", "Reading", "Spectrum"]

#: Tensors ``[k, …]`` of k blocks → ``[k]``.
Formula = Callable[..., Tensor]
#: Eigenvalues ``[k, n]``, ascending → ``[k]``.
Reading = Callable[[Tensor], Tensor]
#: Matrices ``[k, …]`` of k blocks → symmetric ones, float64 ``[k, n, n]``, and what is read from
#: their eigenvalues.
Spectrum = Callable[[Tensor], tuple[Tensor, Reading]]

_Blocks = Sequence[BlockProbe]


class Ledger:
    """Numbers of blocks, one a block and name; several entries of one name are added up."""

    def __init__(self) -> None:
        self._numbers: list[tuple[_Blocks, str, Tensor]] = []
        self._formulas: dict[
            tuple[Formula, object], list[tuple[_Blocks, str, tuple[Tensor, ...]]]
        ] = {}
        self._spectra: dict[tuple[Spectrum, object], list[tuple[_Blocks, str, Tensor]]] = {}

    def number(self, blocks: _Blocks, name: str, *tensors: Tensor, formula: Formula) -> None:
        """Enter a number of each of k blocks.

        Args:
            blocks: k of them.
            name: under which :attr:`BlockProbe.numbers` will have it.
            tensors: ``[k, …]`` each, on any device.
            formula: them → ``[k]``; called once for all entries of equal shapes.
        """
        key = (formula, tuple(tensor.shape[1:] for tensor in tensors))
        self._formulas.setdefault(key, []).append((blocks, name, tensors))

    def spectrum(self, blocks: _Blocks, name: str, matrices: Tensor, spectrum: Spectrum) -> None:
        """Enter what is read from the eigenvalues of a matrix of each of k blocks.

        Args:
            blocks: k of them.
            name: as of :meth:`number`.
            matrices: ``[k, …]``; what is not finite reads NaN.
            spectrum: called once for all entries of equal shapes.
        """
        key = (spectrum, (matrices.dtype, *matrices.shape[1:]))
        self._spectra.setdefault(key, []).append((blocks, name, matrices))

    def settle(self) -> None:
        """Write all that was entered to the blocks."""
        self._solve()
        for (formula, _), entries in self._formulas.items():
            columns = zip(*(tensors for _, _, tensors in entries), strict=True)
            values = formula(*(torch.cat(column) for column in columns))
            self._enter(((blocks, name) for blocks, name, _ in entries), values)
        self._formulas.clear()
        numbers, self._numbers = self._numbers, []
        if not numbers:
            return
        found = iter(torch.cat([values.double() for _, _, values in numbers]).tolist())
        for blocks, name, _ in numbers:
            for block in blocks:
                block.numbers[name] = block.numbers.get(name, 0.0) + next(found)

    def _solve(self) -> None:
        """All eigenvalues, those of equal matrices at once."""
        sizes: dict[int, list[tuple[Tensor, Reading, list[tuple[_Blocks, str]]]]] = {}
        for (spectrum, _), entries in self._spectra.items():
            symmetric, read = spectrum(torch.cat([matrices for _, _, matrices in entries]))
            owners = [(blocks, name) for blocks, name, _ in entries]
            sizes.setdefault(symmetric.shape[-1], []).append((symmetric, read, owners))
        self._spectra.clear()
        for alike in sizes.values():
            found = _eigenvalues(torch.cat([symmetric for symmetric, _, _ in alike]))
            parts = found.split([len(symmetric) for symmetric, _, _ in alike])
            for (_, read, owners), part in zip(alike, parts, strict=True):
                self._enter(owners, read(part))

    def _enter(self, owners: Iterable[tuple[_Blocks, str]], values: Tensor) -> None:
        start = 0
        for blocks, name in owners:
            self._numbers.append((blocks, name, values[start : start + len(blocks)]))
            start += len(blocks)


def _eigenvalues(matrices: Tensor) -> Tensor:
    """Eigenvalues ``[k, n]``, ascending; NaN of a matrix with anything that is not finite."""
    finite = matrices.isfinite().flatten(1).all(dim=1)
    clean = torch.where(finite[:, None, None], matrices, torch.zeros_like(matrices))
    return torch.where(finite[:, None], torch.linalg.eigvalsh(clean), torch.nan)
