"""Running candidates' steps: one after the other, or those of equal shapes together.

One by one, candidates are walked depth first, so that the activations of a shared prefix are
computed when first met, kept while they are needed, and dropped after. Together, a group is
walked step by step: what its candidates share is computed once, and what is alike in shape in
one go. Either way a proxy sees blocks, and cannot tell which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Step, Trace
from .block import BlockProbe
from .gradients import SecondOrder
from .group import BlockGroup
from .ledger import Ledger
from .padding import cleared
from .passes import SharedPass
from .registry import Proxy

__all__ = ["Walk"]

#: Needs that take a candidate's graph whole, or its tensors one by one.
_ALONE = frozenset({"backward", "hessian", "input_gradient", "relu", "maps"})


class Walk:
    """The pass that proxies share, over candidates of one nested network.

    Args:
        network: the nested network, in training mode.
        proxies: what is computed.
        images: what every candidate is given, ``[B, C, H, W]``, normalised.
        seed: of what proxies draw.
        precision: of convolutions and linear layers.
        given: whether weights are taken as they are, and not at an initialisation's scale.
    """

    def __init__(
        self,
        network: ElasticNetwork,
        proxies: Sequence[Proxy],
        images: Tensor,
        *,
        seed: int,
        precision: str,
        given: bool = False,
    ) -> None:
        self.network = network
        self.given = given
        self.images = images
        self._seed = seed
        self._mask = network.mask_of(images)
        self._pass = SharedPass(len(images), precision, affine=given)
        network.track_statistics(False, self._pass.batch_norm)
        self._needs = frozenset[str]().union(*(proxy.needs for proxy in proxies))
        # One graph from the images on, or one a step, which goes as soon as it has served.
        self._whole_graph = bool(self._needs & {"backward", "input_gradient"})
        self._block_graphs = "block_gradients" in self._needs
        measures = (proxy.on_blocks for proxy in proxies if proxy.on_blocks is not None)
        self._measures: tuple[Callable[[BlockGroup, int], object], ...] = tuple(
            dict.fromkeys(measures)
        )
        self._ledger = Ledger()
        self._path: list[BlockProbe] = []
        images.requires_grad_(
            "input_gradient" in self._needs or (self._whole_graph and self._block_graphs)
        )

    @property
    def takes_groups(self) -> bool:
        """Whether all that proxies need can be had of several candidates at once."""
        return not self._needs & _ALONE

    def grad(self) -> contextlib.AbstractContextManager[object]:
        """Whether torch keeps graphs while candidates are walked and scored."""
        return torch.set_grad_enabled(self._whole_graph or self._block_graphs)

    def one(self, arch: Architecture) -> tuple[BlockProbe, ...]:
        """A candidate's blocks; those it shares with the last one are not run again."""
        steps, path = self.network.steps(arch), self._path
        shared = 0
        while shared < min(len(path), len(steps)) and path[shared].step == steps[shared]:
            shared += 1
        del path[shared:]
        try:
            for step in steps[shared:]:
                parent = path[-1] if path else None
                given = parent.output if parent else self.images
                path += self._run([step], [parent], given)[0]
            self._ledger.settle()
        except BaseException:
            # What was noted of these blocks is lost: nobody may share them.
            del path[shared:]
            self._ledger = Ledger()
            raise
        return tuple(path)

    def together(self, archs: Sequence[Architecture]) -> list[tuple[BlockProbe, ...]]:
        """Blocks of each of several candidates."""
        self._path.clear()
        try:
            paths = self._abreast(archs)
            self._ledger.settle()
        except BaseException:
            self._ledger = Ledger()
            raise
        return [tuple(path) for path in paths]

    def _abreast(self, archs: Sequence[Architecture]) -> list[list[BlockProbe]]:
        """Run all steps of candidates, those of equal depth one after the other."""
        routes = [self.network.steps(arch) for arch in archs]
        paths: list[list[BlockProbe]] = [[] for _ in archs]
        places: dict[BlockProbe | None, tuple[Tensor, int]] = {}
        for depth in range(max(map(len, routes))):
            batches: dict[Hashable, dict[tuple[BlockProbe | None, Step], list[int]]] = {}
            for i, route in enumerate(routes):
                if depth < len(route):
                    parent, step = paths[i][-1] if paths[i] else None, route[depth]
                    shape = (parent.output if parent else self.images).shape
                    alike = batches.setdefault((shape, self.network.group_key(step)), {})
                    alike.setdefault((parent, step), []).append(i)
            found: dict[BlockProbe | None, tuple[Tensor, int]] = {}
            for batch in batches.values():
                parents = [parent for parent, _ in batch]
                given = self._stack(parents, places)
                blocks, output = self._run([step for _, step in batch], parents, given)
                for place, (block, members) in enumerate(zip(blocks, batch.values(), strict=True)):
                    found[block] = output, place
                    for i in members:
                        paths[i].append(block)
            places = found
        return paths

    def _stack(
        self,
        parents: Sequence[BlockProbe | None],
        places: dict[BlockProbe | None, tuple[Tensor, int]],
    ) -> Tensor:
        """What parents gave, one after the other; not copied where it lies so already."""
        if None in parents:
            return torch.cat([self.images] * len(parents))
        whole = places[parents[0]][0]
        if len(whole) == len(self.images) * len(parents) and all(
            places[parent][0] is whole and places[parent][1] == i
            for i, parent in enumerate(parents)
        ):
            return whole
        return torch.cat([parent.output for parent in parents if parent is not None])

    def _run(
        self, steps: Sequence[Step], parents: Sequence[BlockProbe | None], given: Tensor
    ) -> tuple[list[BlockProbe], Tensor]:
        """Run steps, one for each parent, and take all measurements."""
        images = len(self.images)
        trace = Trace(
            want_weights="backward" in self._needs,
            want_relus="relu" in self._needs,
            want_maps="maps" in self._needs,
            he=not self.given,
            images=images,
            mask=None if self._mask is None else torch.cat([self._mask] * len(steps)),
            on_map=self._pass.on_map if "map_moments" in self._needs else None,
        )
        # A stem of embeddings ends the graph: nothing behind it depends on the images.
        if self._block_graphs and not (self._whole_graph and given.requires_grad):
            given = given.detach().requires_grad_()
        twice = SecondOrder() if "hessian" in self._needs else contextlib.nullcontext()
        with self._pass.running() as grams, twice:
            output = cleared(self.network.run_group(steps, given, trace), trace)
        blocks = [
            BlockProbe(step, part, trace.relus, trace.weights, trace.maps, parent)
            for step, parent, part in zip(steps, parents, output.split(images), strict=True)
        ]
        maps: list[tuple[Tensor, Sequence[BlockProbe], bool]] = [
            (gram, blocks if owners is None else [blocks[i] for i in owners], normed)
            for gram, owners, normed in grams
        ]
        group = BlockGroup(blocks, self.network, images, given, output, self._ledger, maps)
        for measure in self._measures:
            measure(group, self._seed)
        if not self._whole_graph:
            output = output.detach()
            for block, part in zip(blocks, output.split(images), strict=True):
                block.let_go(part)
        return blocks, output
