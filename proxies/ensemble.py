"""Named, versioned combinations of proxies.

``ensemble`` is what a search maximises unless told otherwise. Version 1 is MACs + expr: of
the teacher-free pairs measured on four benchmarks with nothing re-tuned, the one that
improves on MACs in each (``results/diswot-s0`` shows it on DisWOT's space beside the
baselines). It knows nothing of the teacher; the similarities that do are shown beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..searchspace.registry import Registry

__all__ = ["DEFAULT", "ENSEMBLES", "TEACHER_SIMILARITIES", "Ensemble"]

DEFAULT = "ensemble"

#: Computed and shown wherever there is a teacher, whatever the ensemble weighs.
TEACHER_SIMILARITIES = ("diswot-semantic", "diswot-relation")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Σ log-rank of its parts against the reference sample.

    Attributes:
        name: used as a proxy's name.
        parts: names of proxies.
        version: raised when parts change.
        summary: one line of words.
    """

    name: str
    parts: tuple[str, ...]
    version: int
    summary: str


ENSEMBLES: Registry[Ensemble] = Registry("ensemble")
ENSEMBLES.add(
    DEFAULT,
    Ensemble(DEFAULT, ("macs", "expr"), 1, "Σ log-rank of MACs and expressivity (teacher-free)"),
)
