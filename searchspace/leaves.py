"""Slices of a parameter whose gradients are summed in place.

Autograd hands a slice's gradient on as a tensor of the whole parameter's size, zeros but for
the slice. Here a slice is a leaf of the graph that shares the parameter's memory, or is a copy
where a layer needs it contiguous, and whose ``.grad`` is the same slice of the parameter's.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Leaves"]


class _Region(NamedTuple):
    """A slice's values and its part of the gradient; whether the values are the leaf."""

    values: Tensor
    gradient: Tensor
    shared: bool

    def add(self, leaf: Tensor) -> None:
        """Add a copy's gradient."""
        if leaf.grad is not None:
            self.gradient.add_(leaf.grad)
            leaf.grad = None


class Leaves:
    """Slices of one parameter, as leaves.

    The parameter's ``.grad`` has to be there, and is added to: ``torch.autograd.grad`` by the
    parameter finds nothing, and ``create_graph`` is not supported.

    Args:
        parameter: of any shape.
        blocks: of equally many rows, each cut alike; slices then have a dimension more, theirs,
            in front.
    """

    def __init__(self, parameter: nn.Parameter, blocks: int = 1) -> None:
        self._parameter = parameter
        self._blocks = blocks
        self._gradient: Tensor | None = None
        self._at = 0
        self._regions: dict[tuple[tuple[int, ...], bool], _Region] = {}

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        """A copied network sums its gradients as autograd does."""

    def cut(self, *sizes: int, flat: bool = False) -> Tensor:
        """The slice of these leading sizes, contiguous; a square kernel's is its centre.

        Args:
            sizes: of the slice, of as many dimensions as should be cut.
            flat: leave out the last two dimensions, which are 1.

        Raises:
            RuntimeError: if the parameter has no gradient to add to.
        """
        parameter = self._parameter
        if parameter.grad is not self._gradient or parameter.data_ptr() != self._at:
            # Moved to another place: what was cut of the old one is nobody's any more.
            self._regions.clear()
            self._gradient, self._at = parameter.grad, parameter.data_ptr()
        region = self._regions.get((sizes, flat))
        if region is None:
            region = self._regions[sizes, flat] = self._region(sizes, flat=flat)
        if region.shared:
            return region.values
        leaf = region.values.contiguous().requires_grad_()
        # As `.grad` it would be of other strides than the leaf, of which torch warns.
        leaf.register_post_accumulate_grad_hook(region.add)
        return leaf

    def _region(self, sizes: tuple[int, ...], *, flat: bool) -> _Region:
        parameter = self._parameter
        if parameter.grad is None:
            raise RuntimeError("gradients are to be summed in place, but there are none")
        index: list[slice | int] = []
        for dim, size in enumerate(sizes):
            edge = (parameter.shape[dim] - size) // 2 if dim >= 2 else 0
            index.append(slice(edge, edge + size))
        if flat:
            index += [0] * (parameter.dim() - len(index))
        whole, grads = parameter, parameter.grad
        if self._blocks > 1:
            whole, grads = (t.unflatten(0, (self._blocks, -1)) for t in (parameter, grads))
            index.insert(0, slice(None))
        where = tuple(index)
        # `.data`: a detached view would be no leaf, but a view.
        values, gradient = whole[where].data, grads[where]
        shared = values.is_contiguous()
        if shared:
            values.requires_grad_()
            values.grad = gradient
        return _Region(values, gradient, shared)
