"""What a distiller is: the part of a student's loss that comes from its teacher.

A new one is a file in :mod:`.distillers` with a subclass of :class:`Distiller` that
:func:`register_distiller` decorates; the conformance suite then tests it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...proxies.taps import Taps
from ...searchspace.errors import InvalidInputError
from ...searchspace.registry import Registry

__all__ = [
    "DISTILLERS",
    "Distiller",
    "Pair",
    "Shapes",
    "Sides",
    "TokenShapes",
    "answers_only",
    "check_labels",
    "reads_of",
    "register_distiller",
]


class TokenShapes(NamedTuple):
    """Shapes of a Transformer's token taps.

    Attributes:
        widths: of what the first layer is given, and of each layer's output; empty where tokens
            are not read.
        heads: (heads, width of a head) of each layer; empty where they are not read.
    """

    widths: tuple[int, ...]
    heads: tuple[tuple[int, int], ...]


class Shapes(NamedTuple):
    """Shapes of one network's taps, without the batch.

    Attributes:
        stages: (C, H, W) of each, shallow to deep; empty where only logits are read.
        final: (C, H, W) of the final map.
        pooled: features that the classifier is given.
        classes: its outputs.
        tokens: of a Transformer's layers, where they are read.
        directions: whether the classifier is given vectors of one length, as those of networks with
            two towers are: its rows then stand for classes as texts do.
    """

    stages: tuple[tuple[int, int, int], ...]
    final: tuple[int, int, int]
    pooled: int
    classes: int
    tokens: TokenShapes | None = None
    directions: bool = False

    @classmethod
    def of(cls, taps: Taps) -> Shapes:
        """Shapes of taps that have been measured."""
        classes = 0 if taps.logits is None else taps.logits.shape[1]
        stages = tuple((int(s.shape[1]), int(s.shape[2]), int(s.shape[3])) for s in taps.stages)
        final = taps.final_map
        shape = (int(final.shape[1]), int(final.shape[2]), int(final.shape[3]))
        tokens = None
        if taps.tokens is not None:
            widths = tuple(int(x.shape[2]) for x in taps.tokens.layers)
            heads = tuple((int(x.shape[2]), int(x.shape[4])) for x in taps.tokens.qkv)
            tokens = TokenShapes(widths, heads)
        lengths = torch.linalg.vector_norm(taps.pooled.float(), dim=1)
        equal = bool(classes) and min(taps.pooled.shape) > 1 and float(lengths.max()) > 0.0
        equal = equal and float(lengths.max() - lengths.min()) <= 1e-4 * float(lengths.max())
        return cls(stages, shape, int(taps.pooled.shape[1]), int(classes), tokens, equal)


class Sides(NamedTuple):
    """What a distiller knows when it is made.

    Attributes:
        student: shapes of its taps.
        teacher: shapes of its taps.
        images: in the training part.
        seed: of what is learnt beside the student.
    """

    student: Shapes
    teacher: Shapes
    images: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Student and teacher on one batch of B images.

    Attributes:
        student: with gradients; float32.
        teacher: without; ``logits`` are the logarithms of mean probabilities where there are
            several teachers. Of a distiller that reads logits alone both have empty maps.
        labels: int64 ``[B]``.
        indices: of the images in the training part, int64 ``[B]``.
        progress: share of the steps that are done, 0 to 1.
    """

    student: Taps
    teacher: Taps
    labels: Tensor
    indices: Tensor
    progress: float


class Distiller(nn.Module, abc.ABC):
    """A loss between a student and its teacher, and what is learnt along with it.

    Parameters are trained with the student's and left behind with it; buffers are kept in
    checkpoints. Constructors take ``sides`` and keyword options whose defaults are the paper's.
    Their weights are drawn from a generator of :attr:`Sides.seed`; the global one is not used.
    """

    #: Whether only logits are read: then the teacher's answers can be kept on disk, there can be
    #: several teachers, and no map of either network is recorded.
    logits_only: ClassVar[bool] = False

    #: Whether logits are taken for classes', or labels for their numbers: then it has nothing to
    #: learn of embeddings.
    of_classes: ClassVar[bool] = False

    #: What it reads of the layers of Transformers, of ``"tokens"`` and ``"qkv"``: then both
    #: networks have to be some, and :attr:`Taps.tokens` holds it.
    reads: ClassVar[frozenset[str]] = frozenset()

    #: Weight of the cross-entropy with the labels in the paper's recipe.
    labels: float = 1.0

    #: Whether the loss of a student that equals its teacher in every tap is 0.
    zero_at_teacher: ClassVar[bool] = True

    @abc.abstractmethod
    def forward(self, pair: Pair) -> Tensor:
        """The loss of a batch, a scalar, weighted as in the paper."""

    def prepare(self, batches: Callable[[], Iterable[tuple[Taps, Tensor, Tensor]]]) -> None:
        """Look at the teacher before the first step; by default nothing is looked at.

        Args:
            batches: gives the teacher's taps of the training part, batch by batch, with labels
                and indices; the images are not augmented.
        """

    def around(self, student: nn.Module) -> AbstractContextManager[None]:  # noqa: ARG002
        """What is done to the student while it runs in a step of training; by default nothing."""
        return nullcontext()


DistillerFactory = Callable[..., Distiller]
DISTILLERS: Registry[DistillerFactory] = Registry("distiller")


def answers_only(name: str) -> bool:
    """Whether a registered distiller compares logits alone."""
    return bool(getattr(DISTILLERS[name], "logits_only", False))


def reads_of(name: str) -> frozenset[str]:
    """What a registered distiller reads of Transformers' layers, see :attr:`Distiller.reads`.

    Raises:
        UnknownNameError: if no distiller has that name.
    """
    return getattr(DISTILLERS[name], "reads", frozenset())


def check_labels(name: str, data_name: str) -> None:
    """Refuse a registered distiller of classes where labels are embeddings.

    Raises:
        UnknownNameError: if no distiller has that name.
        InvalidInputError: if it is one.
    """
    if getattr(DISTILLERS[name], "of_classes", False):
        raise InvalidInputError(
            f"distiller {name!r} learns of classes, and the labels of {data_name!r} are a teacher's"
            " embeddings; take cosine, rkd, minilm or lighthubert, or none, which learns them"
        )


def register_distiller(name: str) -> Callable[[type[Distiller]], type[Distiller]]:
    """Register a :class:`Distiller` under ``name``."""

    def register(kind: type[Distiller]) -> type[Distiller]:
        DISTILLERS.add(name, kind)
        return kind

    return register
