"""What a search was asked for, so that it can be asked for again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...proxies.batch import Batch
from ...proxies.teacher import Teacher
from ...searchspace.space import SearchSpace
from ..budget import Budget
from ..find import search
from ..result import SearchResult
from ..run import Progress

__all__ = ["SearchRequest"]


@dataclass(frozen=True)
class SearchRequest:
    """What both searches are asked; see :func:`~scholarch.search.find.search`."""

    space: SearchSpace
    batch: Batch
    budget: Budget
    proxies: Sequence[str] | None
    searcher: str
    evaluations: int
    seed: int
    workers: int
    device: str
    precision: str
    command: str
    progress: Callable[[Progress], None] | None

    def run(self, teacher: Teacher | None, out: Path | None) -> SearchResult:
        """The search without training."""
        return search(
            self.space,
            self.batch,
            teacher,
            budget=self.budget,
            proxies=self.proxies,
            searcher=self.searcher,
            evaluations=self.evaluations,
            seed=self.seed,
            out=out,
            workers=self.workers,
            device=self.device,
            precision=self.precision,
            command=self.command,
            progress=self.progress,
        )
