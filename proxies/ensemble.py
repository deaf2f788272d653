"""Named, versioned combinations of proxies.

``ensemble`` is what a search maximises unless told otherwise: one formula for all convolutional
spaces and one for all Transformers. Parts and weights were chosen on half of NAS-Bench-201's
cells (CIFAR-10) and on FlexiBERT alone; ``results/ranking`` lists what was tried and what it
gives elsewhere. It knows nothing of the teacher; the similarities that do are shown beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..searchspace.errors import InvalidInputError
from ..searchspace.registry import Registry

__all__ = ["DEFAULT", "ENSEMBLES", "TEACHER_SIMILARITIES", "Ensemble", "ensemble_for"]

DEFAULT = "ensemble"

#: Computed and shown wherever there is a teacher, whatever the ensemble weighs.
TEACHER_SIMILARITIES = ("diswot-semantic", "diswot-relation")


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Σ weight · log-rank of its parts against the reference sample.

    Attributes:
        name: used as a proxy's name.
        parts: names of proxies.
        version: raised when parts or weights change.
        summary: one line of words.
        weights: of the parts' log-ranks; none: 1 each.
    """

    name: str
    parts: tuple[str, ...]
    version: int
    summary: str
    weights: tuple[float, ...] = ()

    @property
    def weight_of(self) -> dict[str, float]:
        """Weight by part."""
        return dict(zip(self.parts, self.weights or (1.0,) * len(self.parts), strict=True))


ENSEMBLES: Registry[Ensemble] = Registry("ensemble")

for _ensemble in (
    Ensemble(
        DEFAULT,
        ("expr", "decorrelation", "gradient-stability", "synflow", "signal-growth", "capacity"),
        2,
        "Σ log-rank of what convolutional features, gradients and sizes tell (teacher-free)",
        (1.0, 1.0, 1.0, 0.5, 0.5, 0.5),
    ),
    Ensemble(
        f"{DEFAULT}-transformer",
        ("expr", "long-capacity"),
        2,
        "Σ log-rank of expressivity and of size, depth before width: the default for Transformers",
        (1.0, 0.5),
    ),
    Ensemble(
        "macs-expr",
        ("macs", "expr"),
        1,
        "Σ log-rank of MACs and expressivity: the first default, now a baseline",
    ),
    Ensemble(
        "az-nas",
        ("az-expressivity", "az-progressivity", "az-trainability", "az-complexity"),
        1,
        "Σ log-rank of AZ-NAS's four proxies (Lee & Ham, CVPR 2024, §3.3)",
    ),
    Ensemble(
        "vkdnw-agg",
        ("vkdnw", "jacov", "az-expressivity", "az-trainability", "macs"),
        1,
        "Σ log-rank of VKDNW and four more (Tybl & Neumann, CVPR 2025, §3)",
    ),
):
    ENSEMBLES.add(_ensemble.name, _ensemble)


def ensemble_for(name: str, family: str) -> Ensemble:
    """The ensemble of a name; of the default, the one for a family of networks.

    Args:
        name: registered name.
        family: :attr:`~scholarch.searchspace.space.SearchSpace.family`.

    Raises:
        UnknownNameError: if there is none.
        InvalidInputError: if it is another family's default.
    """
    if name.startswith(f"{DEFAULT}-") and name in ENSEMBLES and name != f"{DEFAULT}-{family}":
        raise InvalidInputError(
            f"{name!r} is the default of another family of networks than this space's, {family};"
            f" write {DEFAULT!r}, which is each family's own, or the parts"
            f" {', '.join(ENSEMBLES[name].parts)}"
        )
    return ENSEMBLES[f"{name}-{family}" if f"{name}-{family}" in ENSEMBLES else name]
