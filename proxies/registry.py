"""What a proxy is, and the table of all of them.

A new proxy is one file: a pure function of a :class:`~scholarch.proxies.probe.Probe`
under :func:`register_proxy`, and its module's name in ``_MODULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..searchspace.errors import InvalidInputError
from ..searchspace.plugins import load_entry_points
from ..searchspace.registry import Registry

if TYPE_CHECKING:
    from .group import BlockGroup
    from .probe import Probe, TeacherSide

__all__ = ["NEEDS", "Proxy", "get_proxy", "list_proxies", "register_proxy"]

#: What a proxy can need. ``forward``: a pass of the batch; ``labels``; ``backward``: one
#: gradient of the cross-entropy; ``hessian``: the product of its Hessian with that; ``maps``:
#: outputs of convolutions; ``input_gradient``: of the summed logits at the images; ``relu``,
#: ``bn``, ``attention``: of the network; ``images``: inputs that are pixels, which can be moved
#: or made up, as tokens and sound cannot; ``teacher``; ``teacher_tokens``: of a Transformer,
#: where it is one, every layer's tokens, queries, keys and values; ``network``: the nested
#: network or a standalone copy; ``block_gradients``: each block's gradient at its input,
#: ``map_moments``: means and Gram matrices of maps, both taken by ``on_blocks`` as blocks are run.
NEEDS = (
    "forward",
    "labels",
    "backward",
    "hessian",
    "maps",
    "input_gradient",
    "relu",
    "bn",
    "attention",
    "images",
    "teacher",
    "teacher_tokens",
    "network",
    "block_gradients",
    "map_moments",
)

_MODULES = (
    "size",
    "az_nas",
    "decorrelation",
    "diswot",
    "diswot_paper",
    "distinct_heads",
    "dss",
    "epe_nas",
    "expr",
    "fisher",
    "grad_norm",
    "gradsign",
    "grasp",
    "growth",
    "jacov",
    "kd_logits",
    "kd_maps",
    "kd_relations",
    "l2_norm",
    "meco",
    "naswot",
    "naswot_gelu",
    "plain",
    "sample_relations",
    "snip",
    "stability",
    "swap",
    "synflow",
    "te_nas",
    "token_relations",
    "vkdnw",
    "zen",
    "zico",
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A training-free score of one candidate.

    Attributes:
        name: registered name.
        compute: pure function of a probe.
        summary: one line of words.
        source: paper and section, or the code it follows.
        needs: subset of :data:`NEEDS`.
        direction: +1 where a higher value of ``compute`` is better, else -1.
        version: raised when values change; part of the run store's key.
        check: ``f(teacher, num_classes)`` gives the reason why a teacher will not do, or
            ``None``; called before any scoring.
        images: fewest with which it tells candidates apart.
        on_blocks: ``f(group, seed)``, called as soon as blocks were run, of one candidate or of
            several at once; what it notes in the group's ledger is all that ``compute`` takes
            of their graph, which is then let go.
        bfloat16: whether its ranks are the same where convolutions and linear layers are
            computed in bfloat16; a proxy without a forward pass has nothing to say.
        random_only: why it means nothing on weights that were trained or inherited; ``None``
            where it is defined on them as well.
    """

    name: str
    compute: Callable[[Probe], float]
    summary: str
    source: str
    needs: frozenset[str]
    direction: int = 1
    version: int = 1
    check: Callable[[TeacherSide, int], str | None] | None = None
    images: int = 2
    on_blocks: Callable[[BlockGroup, int], object] | None = None
    bfloat16: bool = False
    random_only: str | None = None

    def unfit(self, modality: str, targets: bool, given: bool = False) -> str | None:
        """Why inputs, labels or weights will not do for it; ``None`` where they do.

        Args:
            modality: of the inputs, ``"image"``, ``"text"`` or ``"sound"``.
            targets: whether the labels are no classes: a teacher's vectors, or none at all.
            given: whether weights are a supernet's, not random ones.
        """
        if given and self.random_only is not None:
            return f"candidates have a supernet's weights, and {self.random_only}"
        if modality != "image" and self.needs & {"images", "input_gradient"}:
            return f"it changes or makes up images, and inputs here are {modality}"
        if targets and self.needs & {"labels", "backward", "hessian"}:
            return "it needs labels that are classes, which these data have not"
        return None


_PROXIES: Registry[Proxy] = Registry("proxy")


def register_proxy(
    name: str,
    *,
    source: str,
    needs: Iterable[str] = (),
    direction: int = 1,
    version: int = 1,
    check: Callable[[TeacherSide, int], str | None] | None = None,
    images: int = 2,
    on_blocks: Callable[[BlockGroup, int], object] | None = None,
    bfloat16: bool = False,
    random_only: str | None = None,
) -> Callable[[Callable[[Probe], float]], Callable[[Probe], float]]:
    """Register a function of a probe; its docstring's first line becomes the summary.

    Raises:
        InvalidInputError: if the name is taken, a need unknown or the direction not ±1.
    """
    needs = frozenset(needs)
    if unknown := needs.difference(NEEDS):
        raise InvalidInputError(
            f"proxy {name!r} needs {', '.join(sorted(unknown))}; known: {', '.join(NEEDS)}"
        )
    if direction not in (1, -1):
        raise InvalidInputError(f"proxy {name!r} has direction {direction}; need 1 or -1")

    def register(compute: Callable[[Probe], float]) -> Callable[[Probe], float]:
        summary = (compute.__doc__ or "").strip().split("\n")[0].rstrip(".")
        _PROXIES.add(
            name,
            Proxy(
                name,
                compute,
                summary,
                source,
                needs,
                direction,
                version,
                check,
                images,
                on_blocks,
                bfloat16,
                random_only,
            ),
        )
        return compute

    return register


def _load() -> None:
    for module in _MODULES:
        import_module(f".{module}", __package__)
    load_entry_points()


def get_proxy(name: str) -> Proxy:
    """The registered proxy.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    _load()
    return _PROXIES[name]


def list_proxies(pattern: str = "*") -> list[str]:
    """Names of the registered proxies that match a shell pattern."""
    _load()
    return _PROXIES.names(pattern)
