"""Latency tables of layers, as ProxylessNAS and once-for-all published them for phones.

A network takes as long as its layers together (Cai et al., ICLR 2019, §3.3.1; ICLR 2020, §3.4). A
layer is named by its sizes; which layers an architecture has is read off the space's own widths
and strides, not measured. All times are milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..convnets.mobilenet_config import Block as LayerBlock
from ..convnets.mobilenet_space import MobileNetSpace
from ..convnets.staged import halved
from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .checks import milliseconds
from .plan import Block, BlockPlan, Slot

__all__ = ["PublishedTable", "is_published", "read_published", "read_yaml"]

_KEY = re.compile(r"(Conv|Conv_1|Conv_2|AvgPool2D|Logits|expanded_conv)-input:\d+x\d+x\d+-output:")
_STEM = re.compile(r"Conv-input:(\d+)x\1x\d+-output:")

#: A MobileNet takes this many ms on anything that runs one; outside it is another unit.
_PLAUSIBLE = (0.1, 5000.0)

Layers = dict[str, float]
"""Key of a layer → mean, in ms."""


class PublishedTable:
    """Latencies of MobileNets from a published table of their layers.

    Args:
        device: name.
        layers: resolution → its layers.
        source: where they came from, for messages.

    Attributes:
        fingerprint: of the layers.
        rows: ``None``: every architecture is known.
    """

    rows: Matrix | None = None

    def __init__(self, device: str, layers: dict[int, Layers], source: str = "table") -> None:
        self.device = device
        self.layers = layers
        self.source = source
        said = json.dumps({str(side): found for side, found in layers.items()}, sort_keys=True)
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
        self._ready: dict[str, tuple[BlockPlan, npt.NDArray[np.float64]]] = {}

    def latency(self, space: SearchSpace, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Milliseconds of N architectures, ``[N]``.

        Raises:
            InvalidInputError: if the space is none of MobileNets, or the table lacks its
                resolution or some of its layers; names them.
        """
        plan, ms = self.ready(space)
        return plan.total(ms, matrix)

    def ready(self, space: SearchSpace) -> tuple[BlockPlan, npt.NDArray[np.float64]]:
        """Which layer stands where in the space, and the ms of each, ``[layers]``."""
        code = json.dumps(space.spec(), sort_keys=True)
        if code not in self._ready:
            self._ready[code] = self._fit_to(space)
        return self._ready[code]

    def _fit_to(self, space: SearchSpace) -> tuple[BlockPlan, npt.NDArray[np.float64]]:
        if not isinstance(space, MobileNetSpace):
            raise InvalidInputError(
                f"latency table {self.source} holds layers of MobileNets; space {space.name!r} is"
                " none: choose mobilenetv3, compofa or proxylessnas, or build a table"
                " (scholarch latency build)"
            )
        layers = self.layers.get(space.resolution)
        if layers is None:
            known = ", ".join(map(str, sorted(self.layers)))
            raise InvalidInputError(
                f"latency table {self.source} lacks resolution {space.resolution}; it has {known}"
            )
        plan = _plan(space)
        missing = [block.key for block in plan.blocks if block.key not in layers]
        if missing:
            stem = next((key for key in layers if _STEM.match(key)), "")
            logits = next((key for key in layers if key.startswith("Logits-")), "")
            raise InvalidInputError(
                f"latency table {self.source} lacks {len(missing)} of {len(plan.blocks)} layers of"
                f" space {space.name!r} (width_mult {space.width_mult}, resolution"
                f" {space.resolution}, num_classes {space.num_classes}), such as {missing[0]!r};"
                f" it is of networks from {stem!r} to {logits!r}: ask for their width and classes"
            )
        ms = np.array([layers[block.key] for block in plan.blocks], dtype=np.float64)
        largest = float(plan.total(ms, np.array([plan.cardinalities]) - 1)[0])
        low, high = _PLAUSIBLE
        if not low <= largest <= high:
            unit = "seconds" if largest < low else "microseconds"
            raise InvalidInputError(
                f"latency table {self.source} gives {largest:.4g} for the largest network of"
                f" {space.name!r}; as ms that cannot be, it looks like {unit}: convert it to ms"
            )
        return plan, ms


# ---------------------------------------------------------------------- which layers


def _plan(space: MobileNetSpace) -> BlockPlan:
    """Each layer of each slot by its published key, with the genes that choose it."""
    config = space.config
    cardinalities = tuple(len(gene.values) for gene in space.genes)
    numbers: dict[str, int] = {}
    slots: list[Slot] = []

    def number(key: str) -> int:
        return numbers.setdefault(key, len(numbers))

    def fixed(path: str, key: str) -> None:
        slots.append(Slot(path, (), np.array([number(key)], dtype=np.int64)))

    side = halved(space.resolution, config.stem_stride)
    entry = f"{space.resolution}x{space.resolution}x{space.in_channels}"
    fixed("stem", f"Conv-input:{entry}-output:{side}x{side}x{config.stem}")
    fixed("first", _key(config.first_block, side, bool(config.mix)))
    for b, (i, j) in enumerate(space._blocks):
        stage = config.stages[i]
        kinds = (("d", i), ("ks", b), ("e", b))
        columns = tuple(sorted(space._columns[k] for k in kinds if k in space._columns))
        choices = np.array(
            list(product(*(range(cardinalities[c]) for c in columns))), dtype=np.int64
        ).reshape(-1, len(columns))
        rows = np.zeros((len(choices), len(cardinalities)), dtype=np.int64)
        rows[:, columns] = choices
        index = np.full(len(rows), -1, dtype=np.int64)
        here = space._depth(rows, i) > j
        kernels, expands = space._index(rows, "ks", b), space._index(rows, "e", b)
        for at in np.flatnonzero(here):
            mid = stage.expands[int(expands[at])] * config.in_channels(i, j)
            block = config.block(i, j, stage.kernels[int(kernels[at])], mid)
            index[at] = number(_key(block, side, bool(config.mix)))
        slots.append(Slot(f"stages.{i}.{j}", columns, index))
        if j == 0:
            side = halved(side, stage.stride)
    last, head = config.stages[-1].width, config.head
    fixed("head", f"Conv_1-input:{side}x{side}x{last}-output:{side}x{side}x{head}")
    if config.mix:
        fixed("pool", f"AvgPool2D-input:{side}x{side}x{head}-output:1x1x{head}")
        fixed("mix", f"Conv_2-input:1x1x{head}-output:1x1x{config.mix}")
        side = 1
    logits = f"Logits-input:{side}x{side}x{config.features}-output:{space.num_classes}"
    fixed("classifier", logits)
    blocks = tuple(Block(key, (), "") for key in numbers)
    return BlockPlan(cardinalities, tuple(slots), blocks, frozenset())


def _key(block: LayerBlock, side: int, mobilenet_v3: bool) -> str:
    """Name of an inverted residual block on an input of ``side`` × ``side``.

    For MobileNetV3 ``expand`` are inner channels, for ProxylessNAS the ratio.
    """
    out = halved(side, block.stride)
    expand = block.mid if mobilenet_v3 else block.mid // block.in_channels
    key = (
        f"expanded_conv-input:{side}x{side}x{block.in_channels}"
        f"-output:{out}x{out}x{block.out_channels}-expand:{expand}-kernel:{block.kernel}"
        f"-stride:{block.stride}-idskip:{int(block.skips)}"
    )
    if mobilenet_v3:
        key += f"-se:{int(block.gated)}-hs:{int(block.activation == 'hswish')}"
    return key


# ---------------------------------------------------------------------- files


def is_published(data: Any) -> bool:
    """Whether a file's content is such a table: one of layers, or of them by resolution."""
    return any(_has_layers(level) for level in _levels(data))


def read_published(data: Any, path: Path, space: SearchSpace) -> PublishedTable:
    """A table from a file's content.

    Once-for-all's and ProxylessNAS's YAML, a resolution a file, is ``{layer: {mean, std, count}}``
    in ms. A file may also hold ``{"unit": "ms", "fields": ["mean", …], "table": {resolution:
    {layer: [mean, …]}}}``.

    Raises:
        InvalidInputError: if a number is none, or below 0; if the unit is another; if the space
            has layers that the table lacks.
    """
    fields: list[str] = ["mean"]
    tables = data
    if "table" in data:
        if data.get("unit") != "ms":
            raise InvalidInputError(
                f"latency table {path} is in {data.get('unit')!r}; need unit 'ms': convert it"
            )
        fields = [str(name) for name in data.get("fields", fields)]
        if "mean" not in fields:
            raise InvalidInputError(f"latency table {path} has fields {fields}; need a mean")
        tables = data["table"]
    if _has_layers(tables):
        means = _means(tables, fields, path)
        sides = {int(match[1]) for key in means if (match := _STEM.match(key))}
        if not sides:
            raise InvalidInputError(
                f"latency table {path} lacks its first layer 'Conv-input:…', which tells the"
                " resolution; was it cut short?"
            )
        layers = dict.fromkeys(sorted(sides), means)
    else:
        layers = {
            int(side): _means(found, fields, path)
            for side, found in tables.items()
            if _has_layers(found) and str(side).isdigit()
        }
    table = PublishedTable(str(data.get("device") or path.stem), layers, str(path))
    table.ready(space)
    return table


def read_yaml(path: Path) -> Any:
    """A YAML file's content.

    Raises:
        InvalidInputError: if PyYAML is not installed, or the file cannot be read.
    """
    try:
        yaml: Any = import_module("yaml")
    except ImportError as error:
        raise InvalidInputError(
            f"reading the YAML table {path} needs a package: pip install pyyaml"
        ) from error
    # libyaml's loader is ten times as fast, where it is built in; both build plain data alone.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, loader)
    except OSError as error:
        raise InvalidInputError(
            f"cannot read the latency table {path}: {error.strerror or error}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        message = f"latency table {path} is no YAML, or was cut short: {said}"
        raise InvalidInputError(message) from error


def _levels(data: Any) -> list[Any]:
    if not isinstance(data, Mapping):
        return []
    tables = data.get("table", data)
    return [tables, *(tables.values() if isinstance(tables, Mapping) else ())]


def _has_layers(data: Any) -> bool:
    return isinstance(data, Mapping) and any(_KEY.match(str(key)) for key in data)


def _means(layers: Mapping[str, Any], fields: list[str], path: Path) -> Layers:
    found: Layers = {}
    for key, line in layers.items():
        value = line
        if isinstance(line, Mapping):
            value = line.get("mean")
        elif isinstance(line, list):
            value = line[fields.index("mean")] if len(line) == len(fields) else None
        found[str(key)] = milliseconds(value, f"latency table {path}: the mean of layer {key!r}")
    return found
