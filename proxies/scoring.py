"""Scoring many candidates: one forward for all proxies, common prefixes computed once.

Candidates are sorted by their steps and walked one by one, sharing prefixes, or in groups
whose equal shapes go together. On DisWOT's S0 prefixes leave 2.3 blocks to compute a candidate
in place of 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.errors import InvalidInputError
from ..searchspace.space import SearchSpace
from .admission import check_batch, check_images, check_precision, naming, scored_network
from .batch import Batch
from .block import BlockProbe
from .devices import exact_kernels, find_device, free, one_thread
from .probe import Probe, TeacherSide
from .registry import Proxy, get_proxy
from .score_table import CandidateScore, ScoreTable, as_table, reason_of
from .taps import Taps
from .walk import Walk

__all__ = ["CandidateScore", "ScoreTable", "Scorer", "one_thread"]

#: Candidates run at once on a GPU.
GROUP = 64

#: Of a score in a group, relative to the same candidate's scored alone.
TOLERANCE = 1e-5


class Scorer:
    """Scores candidates of one space under fixed proxies, batch, teacher and seed.

    The score of a candidate depends on nothing else: not on the other candidates or their
    order. Run in groups it is the same within :data:`TOLERANCE`, and to the bit in equal groups
    on an equal device.

    Args:
        space: where the candidates come from.
        proxies: names of registered proxies.
        batch: needed unless every proxy is a size.
        teacher: the teacher's taps on that batch, needed by teacher-aware proxies.
        seed: of the nested weights.
        device: where candidates are scored: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: of convolutions and linear layers, ``"float32"`` or ``"bfloat16"``; what is
            measured is float32 in either.
        group: candidates run at once, where all proxies can be had so; default 1 on a CPU,
            which gains nothing by more, and :data:`GROUP` on a GPU.
        network: of the space, whose weights candidates have as they are, say those that a
            supernet was trained to or inherited; default random ones of the seed. They are
            copied, the network stays as it is.

    Raises:
        UnknownNameError: if a proxy is unknown.
        InvalidInputError: if a need is not met, images are too few, there is no such device, a
            proxy's ranks do not hold in the precision, a proxy is defined on random weights
            alone, or the network is another space's; says what to leave out or to give.
    """

    def __init__(
        self,
        space: SearchSpace,
        proxies: Sequence[str],
        *,
        batch: Batch | None = None,
        teacher: Taps | None = None,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "float32",
        group: int | None = None,
        network: ElasticNetwork | None = None,
    ) -> None:
        self.space = space
        self._given = network
        self.proxies: tuple[Proxy, ...] = tuple(get_proxy(name) for name in dict.fromkeys(proxies))
        self.seed = seed
        self._needs = frozenset[str]().union(*(proxy.needs for proxy in self.proxies))
        self._device = find_device(device)
        self._precision = precision
        check_precision(self.proxies, precision, given=network is not None)
        if group is not None and group < 1:
            raise InvalidInputError(f"group = {group}; need at least 1 candidate at once")
        self._group = group or (1 if self._device.type == "cpu" else GROUP)
        self._batch = batch
        self._teacher: TeacherSide | None = None
        self._walk: Walk | None = None
        if "forward" in self._needs:
            self._open(batch)
        if "teacher" in self._needs:
            self._meet(teacher)

    def _open(self, batch: Batch | None) -> None:
        if batch is None:
            raise InvalidInputError(
                f"{naming(self.proxies, 'forward')} need a batch of inputs; give one, or ask only"
                " for params, macs and depth"
            )
        given = self._given is not None
        check_batch(self.space, self.proxies, batch, given=given)
        network = scored_network(self.space, self.proxies, self.seed, self._given)
        check_images(self.proxies, batch)
        self._batch = batch = replace(
            batch, images=batch.images.to(self._device), labels=batch.labels.to(self._device)
        )
        images = batch.normalised.contiguous(memory_format=torch.channels_last)
        network.to(self._device)
        self._walk = Walk(
            network,
            self.proxies,
            images,
            seed=self.seed,
            precision=self._precision,
            given=given,
        )
        self._given = None  # copied

    def _meet(self, taps: Taps | None) -> None:
        if taps is None or self._batch is None:
            raise InvalidInputError(
                f"{naming(self.proxies, 'teacher')} need a teacher; give one (--teacher), or leave"
                " it out"
            )
        if len(taps.pooled) != len(self._batch):
            raise InvalidInputError(
                f"the teacher saw {len(taps.pooled)} images, the batch has {len(self._batch)}"
            )
        self._teacher = TeacherSide(taps.to(self._device), self._batch.labels)
        for proxy in self.proxies:
            if proxy.check is None:
                continue
            if reason := proxy.check(self._teacher, self.space.num_classes):
                raise InvalidInputError(f"proxy {proxy.name!r} is not defined here: {reason}")

    @property
    def network(self) -> ElasticNetwork | None:
        """The nested network, where a proxy needs a forward pass."""
        return None if self._walk is None else self._walk.network

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
        grad = self._walk.grad() if self._walk is not None else torch.no_grad()
        with one_thread(), exact_kernels(), grad:
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
        if self._walk is None:
            return list(archs)
        return sorted(archs, key=self._walk.network.steps)

    def _probes(
        self, archs: list[Architecture], costs: Mapping[str, dict[str, float]]
    ) -> Iterator[Probe | _Failed]:
        if self._walk is None:
            for arch in archs:
                yield Probe(arch, costs[arch.key], teacher=self._teacher, seed=self.seed)
            return
        for arch, blocks in self._walked(self._walk, self.neighbours(archs)):
            if isinstance(blocks, str):
                yield _Failed(arch, blocks)
                continue
            yield Probe(
                arch,
                costs[arch.key],
                self._batch,
                blocks,
                self._walk.network,
                self._teacher,
                self.seed,
                self._walk.images,
                self.space.modality,
                self._walk.given,
            )

    def _walked(
        self, walk: Walk, archs: Sequence[Architecture]
    ) -> Iterator[tuple[Architecture, tuple[BlockProbe, ...] | str]]:
        """Blocks of each candidate, or why there are none."""
        size = self._group if walk.takes_groups else 1
        for i in range(0, len(archs), size):
            yield from self._tried(walk, archs[i : i + size])

    def _tried(
        self, walk: Walk, group: Sequence[Architecture]
    ) -> Iterator[tuple[Architecture, tuple[BlockProbe, ...] | str]]:
        """The same of a group; one that fails, for want of memory say, in halves."""
        try:
            found = [walk.one(group[0])] if len(group) == 1 else walk.together(group)
        except Exception as error:  # noqa: BLE001  (as in _evaluate: recorded, not the end)
            reason = reason_of(error)
        else:
            yield from zip(group, found, strict=True)
            return
        free(self._device)
        if len(group) == 1:
            yield group[0], reason
            return
        half = len(group) // 2
        yield from self._tried(walk, group[:half])
        yield from self._tried(walk, group[half:])


@dataclass(frozen=True, slots=True)
class _Failed:
    """A candidate whose forward pass failed, e.g. for want of memory."""

    arch: Architecture
    reason: str


def _evaluate(proxy: Proxy, probe: Probe) -> CandidateScore:
    try:
        value = proxy.direction * float(proxy.compute(probe))
    except Exception as error:  # noqa: BLE001  (one candidate's crash must not end a run)
        return CandidateScore(math.nan, reason_of(error))
    if not math.isfinite(value):
        return CandidateScore(math.nan, f"the value is {value}")
    return CandidateScore(value)
