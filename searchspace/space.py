"""What a search space is: genes, an integer matrix of candidates, costs, networks.

A new space subclasses :class:`SearchSpace`, implements the six abstract methods and is
registered with :func:`register_space`; the conformance suite then tests it.
"""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from .architecture import Architecture, Gene, Stage
from .errors import InvalidInputError
from .modality import size_text
from .registry import Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from .elastic import ElasticNetwork

__all__ = [
    "BYTES",
    "SPACES",
    "Columns",
    "LatencyTable",
    "Matrix",
    "SearchSpace",
    "register_space",
]

Matrix = npt.NDArray[np.int64]
"""Candidates as gene indices, shape ``[N, genes]``."""

BYTES = 4
"""Of a float32 value."""

Columns = dict[str, npt.NDArray[np.float64]]
"""Named columns of length N."""


class LatencyTable(Protocol):
    """What a space asks of a latency table.

    Attributes:
        device: its name.
        fingerprint: of its contents.
        rows: architectures that it knows, ``[N, genes]``; ``None``: every one.
    """

    device: str
    fingerprint: str

    @property
    def rows(self) -> Matrix | None:
        """Architectures that it knows."""

    def latency(self, space: SearchSpace, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Milliseconds of N architectures, ``[N]``; NaN where the table has none."""


class SearchSpace(abc.ABC):
    """A finite set of architectures spanned by genes.

    All set operations work on an integer matrix ``[N, genes]`` of gene *indices* and are
    vectorised over N. Networks are built one at a time, costs without building anything.

    Args:
        name: registered name.
        genes: the choices, in matrix-column order.
        num_classes: outputs of the classifier.
        resolution: height and width of the input images, in pixels, or the length of text in
            tokens, of sound in samples at 16 kHz; costs are quoted at it.
        in_channels: channels of the input images, default 3; 2 for text and sound, whose numbers
            travel as two bytes each.

    Raises:
        InvalidInputError: if a number is below 1, or text or sound has other channels than 2.
    """

    #: ``"image"``, ``"text"`` or ``"sound"``: what its networks are given.
    modality: ClassVar[str] = "image"

    #: Tokens that a text space's networks know.
    vocabulary: int = 0

    #: ``"convnet"`` or ``"transformer"``: by which the default ensemble differs.
    family: ClassVar[str] = "convnet"

    #: Costs that need no table. ``macs`` are multiply-accumulates of one image, ``flops`` =
    #: 2 × ``macs``, ``depth`` counts weighted layers on the longest path, ``peak_memory`` is
    #: the most bytes that one convolution or linear layer reads and writes for one image, in
    #: float32 and without its weights (shortcuts and attention's scores are not counted),
    #: ``weight_memory`` the bytes of all parameters in float32.
    own_costs: ClassVar[tuple[str, ...]] = (
        "params",
        "macs",
        "flops",
        "depth",
        "peak_memory",
        "weight_memory",
    )

    def __init__(
        self,
        name: str,
        genes: Sequence[Gene],
        *,
        num_classes: int = 10,
        resolution: int = 32,
        in_channels: int | None = None,
    ) -> None:
        if in_channels is None:
            in_channels = 3 if self.modality == "image" else 2
        for what, value in (
            ("num_classes", num_classes),
            ("resolution", resolution),
            ("in_channels", in_channels),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(
                    f"{what} = {value!r} for space {name!r}; need a whole number of at least 1"
                )
        if self.modality != "image" and in_channels != 2:
            raise InvalidInputError(
                f"in_channels = {in_channels} for space {name!r}, which takes {self.modality}; need"
                " 2, the bytes of a token or sample; leave it out"
            )
        self.name = name
        self.genes = tuple(genes)
        self.num_classes = num_classes
        self.resolution = resolution
        self.in_channels = in_channels
        self._tables: dict[str, LatencyTable] = {}
        self._cardinalities = np.array([len(gene.values) for gene in self.genes], dtype=np.int64)

    # ------------------------------------------------------------------ to implement

    @abc.abstractmethod
    def _cost(self, matrix: Matrix, resolution: int) -> Columns:
        """Params, macs, depth and peak_memory, without building anything."""

    @abc.abstractmethod
    def _format(self, choices: tuple[int, ...]) -> str:
        """The field's own notation."""

    @abc.abstractmethod
    def _parse(self, text: str) -> Sequence[int]:
        """Gene indices of :meth:`_format`'s notation; raises :class:`InvalidInputError`."""

    @abc.abstractmethod
    def build(self, arch: Architecture, *, seed: int = 0) -> nn.Module:
        """A plain standalone network with freshly initialised weights.

        Args:
            arch: an architecture of this space.
            seed: of the initial weights; the global generator is not touched.
        """

    @abc.abstractmethod
    def supernet(self, *, seed: int = 0, init: str = "he") -> ElasticNetwork:
        """The weight-shared network that holds every architecture.

        Args:
            seed: of the initial weights.
            init: ``"he"`` for training, ``"normal"`` for N(0, 1), DisWOT's for scoring.
        """

    @abc.abstractmethod
    def stages(self, arch: Architecture, *, resolution: int | None = None) -> list[Stage]:
        """The architecture stage by stage; params and MACs sum to :meth:`cost`."""

    # ------------------------------------------------------------------ its inputs

    def input_shape(self, resolution: int | None = None) -> tuple[int, int, int]:
        """Channels, height and width of one input as batches hold it.

        Args:
            resolution: default the space's own.
        """
        side = self.resolution if resolution is None else resolution
        return (self.in_channels, side if self.modality == "image" else 1, side)

    def input_text(self, resolution: int | None = None) -> str:
        """The size of one input in words, e.g. ``32×32 pixels`` or ``128 tokens``."""
        return size_text(self.modality, self.resolution if resolution is None else resolution)

    def example(self, n: int, generator: Generator, resolution: int | None = None) -> Tensor:
        """Made-up inputs to try a network on, float32 ``[n, C, H, W]``.

        Images are N(0, 1), as normalised ones about are; texts of random tokens, of which some
        are padding, and sound is noise, both as batches hold them.

        Args:
            n: how many.
            generator: where randomness comes from.
            resolution: default the space's own.
        """
        from .examples import example  # torch is loaded where a network is near

        return example(self, n, generator, self.input_shape(resolution))

    # ------------------------------------------------------------------ to override

    @property
    def size(self) -> int:
        """Number of gene combinations, a Python int of any size."""
        return math.prod(int(count) for count in self._cardinalities)

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Costs that :meth:`cost` returns, in order; a table adds ``latency:<device>``."""
        return (*self.own_costs, *(f"latency:{device}" for device in self._tables))

    @property
    def tables(self) -> dict[str, LatencyTable]:
        """Latency tables by device."""
        return dict(self._tables)

    def attach(self, table: LatencyTable) -> None:
        """Let :meth:`cost` read a latency table.

        Raises:
            InvalidInputError: if there is a table of that device already.
        """
        if table.device in self._tables:
            raise InvalidInputError(
                f"two latency tables of device {table.device!r}; rename one of the files"
            )
        self._tables[table.device] = table

    def known_rows(self) -> Matrix | None:
        """Rows that every attached table knows, ``[N, genes]``; ``None``: all of the space."""
        rows: Matrix | None = None
        for table in self._tables.values():
            if table.rows is None:
                continue
            if rows is None:
                rows = table.rows
            else:
                known = set(self.keys(table.rows))
                rows = rows[[key in known for key in self.keys(rows)]]
        return rows

    def valid(self, matrix: Matrix) -> npt.NDArray[np.bool_]:
        """Which rows are architectures of this space, shape ``[N]``."""
        inside = (matrix >= 0) & (matrix < self._cardinalities)
        return np.asarray(inside.all(axis=1))

    def canonical(self, matrix: Matrix) -> Matrix:
        """The representative of each row's isomorphism class, shape ``[N, genes]``."""
        return matrix

    def spec(self) -> dict[str, Any]:
        """Plain data that :func:`create_space` turns back into an equal space."""
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "resolution": self.resolution,
            "in_channels": self.in_channels,
        }

    # ------------------------------------------------------------------ the integer matrix

    def sample_matrix(self, n: int, seed: int | np.random.Generator = 0) -> Matrix:
        """``n`` uniform rows, with replacement, shape ``[n, genes]``."""
        if n < 0:
            raise InvalidInputError(f"cannot sample {n} architectures; need at least 0")
        rng = np.random.default_rng(seed)
        shape = (n, len(self.genes))
        return rng.integers(0, self._cardinalities, size=shape, dtype=np.int64)

    def enumerate_matrix(self, limit: int = 1_000_000) -> Matrix:
        """Every row of the space, in lexicographic order.

        Raises:
            InvalidInputError: if the space holds more than ``limit``.
        """
        if self.size > limit:
            raise InvalidInputError(
                f"space {self.name!r} holds {self.size:,} architectures, more than {limit:,}"
            )
        grids = np.indices(tuple(self._cardinalities), dtype=np.int64)
        matrix = grids.reshape(len(self.genes), -1).T
        return np.ascontiguousarray(matrix[self.valid(matrix)])

    def mutate(self, matrix: Matrix, rng: np.random.Generator, rate: float | None = None) -> Matrix:
        """Each gene takes another of its values with probability ``rate``, one gene at least.

        Args:
            matrix: parents, ``[N, genes]``; left as it is.
            rng: where randomness comes from.
            rate: default ``1 / genes``.
        """
        rate = 1.0 / len(self.genes) if rate is None else rate
        changed = rng.random(matrix.shape) < rate
        elastic = np.flatnonzero(self._cardinalities > 1)
        if elastic.size:
            forced = elastic[rng.integers(0, elastic.size, size=len(matrix))]
            idle = ~changed[:, elastic].any(axis=1)
            changed[np.flatnonzero(idle), forced[idle]] = True
        # A uniform step of 1 … k-1 round the ring of k values never lands on the old one.
        step = rng.integers(1, np.maximum(self._cardinalities, 2), size=matrix.shape)
        return np.where(changed, (matrix + step) % self._cardinalities, matrix)

    def crossover(self, first: Matrix, second: Matrix, rng: np.random.Generator) -> Matrix:
        """Uniform crossover: each gene comes from either parent with probability ½."""
        return np.where(rng.random(first.shape) < 0.5, first, second)

    def keys(self, matrix: Matrix) -> list[str]:
        """Hash of each row's canonical form, 16 hexadecimal digits."""
        salt = self.name.encode()
        rows = np.ascontiguousarray(self.canonical(matrix)).astype("<i8")
        return [hashlib.sha256(salt + row.tobytes()).hexdigest()[:16] for row in rows]

    # ------------------------------------------------------------------ architectures

    def sample(self, n: int, seed: int | np.random.Generator = 0) -> list[Architecture]:
        """``n`` uniform architectures, with replacement."""
        return self.decode(self.sample_matrix(n, seed))

    def decode(self, matrix: Matrix) -> list[Architecture]:
        """Architectures of the rows of an integer matrix.

        Raises:
            InvalidInputError: if a row is outside the space.
        """
        matrix = np.asarray(matrix, dtype=np.int64).reshape(-1, len(self.genes))
        wrong = np.flatnonzero(~self.valid(matrix))
        if wrong.size:
            raise InvalidInputError(
                f"gene indices {matrix[wrong[0]].tolist()} are not in space {self.name!r}, whose"
                f" genes have {self._cardinalities.tolist()} values"
            )
        rows = (tuple(int(index) for index in row) for row in matrix)
        return [
            Architecture(self.name, row, key, self._format(row))
            for row, key in zip(rows, self.keys(matrix), strict=True)
        ]

    def encode(self, archs: Sequence[Architecture]) -> Matrix:
        """The integer matrix of architectures, ``[N, genes]``.

        Raises:
            InvalidInputError: if one belongs to another space.
        """
        for arch in archs:
            if arch.space != self.name or len(arch.choices) != len(self.genes):
                raise InvalidInputError(
                    f"architecture {arch.text!r} belongs to space {arch.space!r}, not {self.name!r}"
                )
        matrix = np.array([arch.choices for arch in archs], dtype=np.int64)
        matrix = matrix.reshape(-1, len(self.genes))
        if not self.valid(matrix).all():
            self.decode(matrix)  # raises, naming the row
        return matrix

    def parse(self, text: str) -> Architecture:
        """Read the field's own notation; ``str(arch)`` writes it back.

        Raises:
            InvalidInputError: if it cannot be read or lies outside the space.
        """
        return self.decode(np.array([self._parse(text.strip())], dtype=np.int64))[0]

    def values(self, matrix: Matrix) -> Matrix:
        """Gene values in place of gene indices, ``[N, genes]``."""
        columns = [
            np.asarray(gene.values, dtype=np.int64)[matrix[:, i]]
            for i, gene in enumerate(self.genes)
        ]
        return np.stack(columns, axis=1)

    def cost(
        self, archs: Sequence[Architecture] | Matrix, *, resolution: int | None = None
    ) -> Columns:
        """Costs of N architectures without building one.

        Args:
            archs: architectures, or an integer matrix ``[N, genes]``.
            resolution: of the input; default the space's own.

        Returns:
            Name → float64 ``[N]`` for each of :attr:`cost_names`. ``params`` count trainable
            parameters, ``macs`` multiply-accumulates of convolutions, linear layers and
            attention's two products for one image (what most papers print as FLOPs), ``flops`` =
            2 × ``macs``; ``peak_memory`` and ``weight_memory`` are bytes;
            ``latency:<device>`` are ms, NaN where the table does not know the architecture.
        """
        matrix = archs if isinstance(archs, np.ndarray) else self.encode(archs)
        columns = self._cost(matrix, self.resolution if resolution is None else resolution)
        columns["flops"] = 2.0 * columns["macs"]
        columns["weight_memory"] = BYTES * columns["params"]
        for device, table in self._tables.items():
            columns[f"latency:{device}"] = table.latency(self, matrix)
        return {name: columns[name] for name in self.cost_names}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {self.size:,} architectures>"


SpaceFactory = Callable[..., SearchSpace]
SPACES: Registry[SpaceFactory] = Registry("space")


def register_space(name: str) -> Callable[[SpaceFactory], SpaceFactory]:
    """Register a factory ``f(name, **options) -> SearchSpace`` under ``name``."""

    def register(factory: SpaceFactory) -> SpaceFactory:
        return SPACES.add(name, factory)

    return register
