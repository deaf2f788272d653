"""Where scoring runs. In this process today; processes and Ray take the same calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..proxies.batch import Batch
from ..proxies.scoring import CandidateScore, Scorer
from ..proxies.taps import Taps
from ..searchspace.architecture import Architecture
from ..searchspace.elastic import ElasticNetwork
from ..searchspace.space import SearchSpace

__all__ = ["Closable", "Engine", "InProcessEngine"]


class Closable(Protocol):
    """What is closed when a run ends."""

    def close(self) -> None:
        """Give back what is held."""


class Engine(Closable, Protocol):
    """Scores groups of candidates; the same group gives the same scores in any engine."""

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        """For each architecture, proxy name → score."""


class InProcessEngine:
    """Scores in this process on one thread; the nested network is made when first needed."""

    def __init__(
        self,
        space: SearchSpace,
        proxies: Sequence[str],
        *,
        batch: Batch,
        teacher: Taps | None,
        seed: int,
        device: str = "cpu",
        precision: str = "float32",
        network: ElasticNetwork | None = None,
    ) -> None:
        # Made at once: an unmet need has to be refused before a run starts.
        self._scorer = Scorer(
            space,
            proxies,
            batch=batch,
            teacher=teacher,
            seed=seed,
            device=device,
            precision=precision,
            network=network,
        )

    def score(
        self,
        archs: Sequence[Architecture],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[dict[str, CandidateScore]]:
        return self._scorer.score(archs, progress=progress)

    def close(self) -> None:
        """Nothing to give back."""
