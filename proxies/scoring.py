"""Scoring many candidates: one forward for all proxies, common prefixes computed once.

Candidates are sorted by their steps and walked depth first, so that the activations of a
shared prefix are computed when first met, kept while they are needed, and dropped after.
On DisWOT's S0 that leaves 2.3 blocks to compute a candidate in place of 12.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork, Trace, to_channels_last
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import SearchSpace
from .batch import Batch
from .gradients import SecondOrder
from .probe import BlockProbe, Probe, TeacherSide
from .registry import Proxy, get_proxy
from .score_table import CandidateScore, ScoreTable, as_table
from .taps import Taps

__all__ = ["CandidateScore", "ScoreTable", "Scorer", "one_thread"]

#: What a proxy can need of a network, and what it is called.
_TRAITS = {"bn": "batch norm", "relu": "ReLU activations", "attention": "attention layers"}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: sums split over more round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Scorer:
    """Scores candidates of one space under fixed proxies, batch, teacher and seed.

    The score of a candidate depends on nothing else: not on the other candidates, their
    order or how they are grouped.

    Args:
        space: where the candidates come from.
        proxies: names of registered proxies.
        batch: needed unless every proxy is a size.
        teacher: the teacher's taps on that batch, needed by teacher-aware proxies.
        seed: of the nested weights.

    Raises:
        UnknownNameError: if a proxy is unknown.
        InvalidInputError: if a need is not met or images are too few; says what to leave out
            or to give.
    """

    def __init__(
        self,
        space: SearchSpace,
        proxies: Sequence[str],
        *,
        batch: Batch | None = None,
        teacher: Taps | None = None,
        seed: int = 0,
    ) -> None:
        self.space = space
        self.proxies: tuple[Proxy, ...] = tuple(get_proxy(name) for name in dict.fromkeys(proxies))
        self.seed = seed
        self._needs = frozenset[str]().union(*(proxy.needs for proxy in self.proxies))
        # One graph from the images on, or one a step, which goes as soon as it has served.
        self._whole_graph = bool(self._needs & {"backward", "input_gradient"})
        self._block_graphs = "block_gradients" in self._needs
        self._eager = [proxy.on_block for proxy in self.proxies if proxy.on_block is not None]
        self._drop_maps = not any(
            "maps" in proxy.needs and proxy.on_block is None for proxy in self.proxies
        )
        self._batch = batch
        self._teacher: TeacherSide | None = None
        self._network: ElasticNetwork | None = None
        self._images: Tensor | None = None
        if "forward" in self._needs:
            self._open(batch)
        if "teacher" in self._needs:
            self._meet(teacher)

    def _open(self, batch: Batch | None) -> None:
        if batch is None:
            raise InvalidInputError(
                f"{self._naming('forward')} need a batch of images; give one, or ask only for"
                " params, macs and depth"
            )
        if batch.images.shape[1] != self.space.in_channels:
            raise InvalidInputError(
                f"the batch has {batch.images.shape[1]} channels, space {self.space.name!r}"
                f" takes {self.space.in_channels}; create it with in_channels="
                f"{batch.images.shape[1]}"
            )
        if batch.images.shape[2] != batch.images.shape[3]:
            raise InvalidInputError(
                f"the batch's images are {batch.images.shape[2]}×{batch.images.shape[3]} pixels;"
                " costs are counted for square ones; crop or pad them"
            )
        if batch.num_classes != self.space.num_classes:
            raise InvalidInputError(
                f"the batch has {batch.num_classes} classes, space {self.space.name!r} is made"
                f" for {self.space.num_classes}; create it with num_classes={batch.num_classes}"
            )
        network = self.space.supernet(seed=self.seed, init="normal").train()
        network.track_statistics(False)
        network.requires_grad_(False)
        to_channels_last(network)
        for trait, what in _TRAITS.items():
            if trait in self._needs and trait not in network.traits:
                raise InvalidInputError(
                    f"{self._naming(trait)} need {what}, which the networks of space"
                    f" {self.space.name!r} lack; leave it out"
                )
        if short := [proxy for proxy in self.proxies if proxy.images > len(batch)]:
            most = max(short, key=lambda proxy: proxy.images)
            raise InvalidInputError(
                f"proxy {most.name!r} needs at least {most.images} images, the batch has"
                f" {len(batch)}; take {most.images} or more (--batch-size, of a benchmark --size),"
                " or leave it out"
            )
        self._network = network
        self._images = batch.normalised.contiguous(memory_format=torch.channels_last)
        self._images.requires_grad_(
            "input_gradient" in self._needs or (self._whole_graph and self._block_graphs)
        )

    def _meet(self, taps: Taps | None) -> None:
        if taps is None or self._batch is None:
            raise InvalidInputError(
                f"{self._naming('teacher')} need a teacher; give one (--teacher), or leave it out"
            )
        if len(taps.pooled) != len(self._batch):
            raise InvalidInputError(
                f"the teacher saw {len(taps.pooled)} images, the batch has {len(self._batch)}"
            )
        self._teacher = TeacherSide(taps, self._batch.labels)
        for proxy in self.proxies:
            if proxy.check is None:
                continue
            if reason := proxy.check(self._teacher, self.space.num_classes):
                raise InvalidInputError(f"proxy {proxy.name!r} is not defined here: {reason}")

    def _naming(self, need: str) -> str:
        names = [repr(proxy.name) for proxy in self.proxies if need in proxy.needs]
        return f"prox{'y' if len(names) == 1 else 'ies'} {', '.join(names)}"

    # ------------------------------------------------------------------ scoring

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        """Score candidates, each distinct key once.

        Args:
            archs: of the scorer's space.
            progress: called with the number of distinct candidates done so far.

        Returns:
            For each architecture, proxy name → score, in the order given.
        """
        # The representative of each isomorphism class stands for all of it: what is dead in a
        # cell costs what it costs, but adds nothing to any score, sizes included.
        matrix = self.space.canonical(self.space.encode(archs))
        distinct = {arch.key: arch for arch in self.space.decode(matrix)}
        costs = self.space.cost(list(distinct.values())) if distinct else {}
        rows = {
            key: {name: float(column[i]) for name, column in costs.items()}
            for i, key in enumerate(distinct)
        }
        done: dict[str, dict[str, CandidateScore]] = {}
        with one_thread(), torch.set_grad_enabled(self._whole_graph or self._block_graphs):
            for probe in self._probes(list(distinct.values()), rows):
                if isinstance(probe, _Failed):
                    done[probe.arch.key] = {
                        proxy.name: CandidateScore(math.nan, probe.reason) for proxy in self.proxies
                    }
                else:
                    done[probe.arch.key] = {
                        proxy.name: _evaluate(proxy, probe) for proxy in self.proxies
                    }
                if progress is not None:
                    progress(len(done))
        return [done[arch.key] for arch in archs]

    def table(self, archs: Sequence[Architecture]) -> ScoreTable:
        """:meth:`score` as columns."""
        return as_table(self.score(archs), [proxy.name for proxy in self.proxies])

    def neighbours(self, archs: Iterable[Architecture]) -> list[Architecture]:
        """Candidates in an order that puts common prefixes side by side."""
        if self._network is None:
            return list(archs)
        return sorted(archs, key=self._network.steps)

    def _probes(
        self, archs: list[Architecture], costs: Mapping[str, dict[str, float]]
    ) -> Iterator[Probe | _Failed]:
        if self._network is None or self._images is None:
            for arch in archs:
                yield Probe(arch, costs[arch.key], teacher=self._teacher, seed=self.seed)
            return
        path: list[BlockProbe] = []
        for arch in self.neighbours(archs):
            steps = self._network.steps(arch)
            shared = 0
            while shared < min(len(path), len(steps)) and path[shared].step == steps[shared]:
                shared += 1
            del path[shared:]
            try:
                for step in steps[shared:]:
                    trace = Trace(
                        want_weights="backward" in self._needs,
                        want_relus="relu" in self._needs,
                        want_maps="maps" in self._needs,
                        he=True,
                    )
                    x = path[-1].output if path else self._images
                    if self._block_graphs and not self._whole_graph:
                        x = x.detach().requires_grad_()
                    twice = SecondOrder() if "hessian" in self._needs else contextlib.nullcontext()
                    with twice:
                        output = self._network.run_step(step, x, trace)
                    block = BlockProbe(step, output, trace.relus, trace.weights, trace.maps)
                    block.given = x if self._block_graphs else None
                    for measure in self._eager:
                        measure(block, self.seed)
                    if not self._whole_graph:
                        block.let_go(maps=self._drop_maps)
                    path.append(block)
            except Exception as error:  # noqa: BLE001 (as in _evaluate: recorded, not the end)
                yield _Failed(arch, _reason(error))
                continue
            yield Probe(
                arch,
                costs[arch.key],
                self._batch,
                tuple(path),
                self._network,
                self._teacher,
                self.seed,
                self._images,
            )


@dataclass(frozen=True, slots=True)
class _Failed:
    """A candidate whose forward pass failed, e.g. for want of memory."""

    arch: Architecture
    reason: str


def _reason(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return f"out of memory: {text[:160]}" if text else "out of memory"
    return f"{type(error).__name__}: {text[:200]}"


def _evaluate(proxy: Proxy, probe: Probe) -> CandidateScore:
    try:
        value = proxy.direction * float(proxy.compute(probe))
    except Exception as error:  # noqa: BLE001  (one candidate's crash must not end a run)
        return CandidateScore(math.nan, _reason(error))
    if not math.isfinite(value):
        return CandidateScore(math.nan, f"the value is {value}")
    return CandidateScore(value)
