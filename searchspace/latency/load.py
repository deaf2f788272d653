"""Reading whatever kind of latency table a file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..space import LatencyTable, SearchSpace
from .architectures import load_architecture_table
from .table import FORMAT, BlockTable, read_json

__all__ = ["device_of", "load_block_table", "load_table"]

#: What a JSON table calls itself → module and function that read it, ``f(data, path, space)``.
_FORMATS: dict[str, tuple[str, str]] = {"scholarch-latency-fit": (".fit", "read_fitted")}


def device_of(path: str | Path) -> str:
    """What a table's device is called in a budget: its file's name without the ending."""
    name = Path(path).name
    for ending in (".gz", ".csv", ".json", ".yaml", ".yml"):
        name = name.removesuffix(ending)
    return name


def load_table(path: str | Path, space: SearchSpace) -> LatencyTable:
    """Read a latency table for a space; the device is called as the file is.

    A JSON file is what ``scholarch latency build``, ``fit`` or ``import`` wrote, or a table as
    once-for-all published them, also in YAML. A CSV file has a line an architecture: one column
    is called ``arch`` (or ``arch_str``, ``architecture``) and holds the space's notation; the
    latency in ms is the column ``latency_ms``, ``latency`` or ``ms``, or the only other one. It
    may be gzipped.

    Raises:
        InvalidInputError: if the file cannot be read, is damaged, lacks something or belongs to
            another space; says what and the way out.
    """
    path = Path(path)
    if path.suffix not in (".json", ".yaml", ".yml"):
        return load_architecture_table(path, space, device_of(path))
    reader: Callable[[Any, Path, SearchSpace], Any]
    data = _read(path)
    kind = data.get("format") if isinstance(data, Mapping) else None
    if kind == FORMAT:
        table = BlockTable.from_json(data, str(path)).renamed(device_of(path))
        table.fingerprint = BlockTable.from_json(data, str(path)).fingerprint
        table.ready(space)
        return table
    for name, (module, function) in _FORMATS.items():
        if kind == name:
            reader = getattr(import_module(module, __package__), function)
            return _named(reader(data, path, space), path)
    from .published import is_published, read_published

    if is_published(data):
        return _named(read_published(data, path, space), path)
    raise InvalidInputError(
        f"{path} is no latency table: its format is {kind!r}; build one by scholarch latency build"
    )


def load_block_table(path: str | Path) -> BlockTable:
    """Read a table that ``scholarch latency build`` or ``import`` wrote.

    Raises:
        InvalidInputError: if it is none, or damaged.
    """
    path = Path(path)
    data = read_json(path)
    kind = data.get("format") if isinstance(data, Mapping) else None
    if kind != FORMAT:
        raise InvalidInputError(
            f"{path} is no table of blocks: its format is {kind!r}, not {FORMAT!r}; build one by"
            " scholarch latency build"
        )
    return BlockTable.from_json(data, str(path))


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return read_json(path)
    from .published import read_yaml

    return read_yaml(path)


def _named(table: LatencyTable, path: Path) -> LatencyTable:
    table.device = device_of(path)
    return table
