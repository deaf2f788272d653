"""NAS-Bench-201: cells of four nodes (Dong & Yang, ICLR 2020), accuracies of NATS-Bench."""

from __future__ import annotations

from pathlib import Path

from ..searchspace.errors import InvalidInputError
from .registry import register_benchmark
from .tables import TruthTable, find_files, has_column, merged, truth_table

__all__ = ["nasbench201"]

_ARCH = "arch_str"
_OTHERS = ("idx", "params", "macs")


@register_benchmark("nasbench201", space="nasbench201", truth="cifar10")
def nasbench201(folder: Path) -> TruthTable:
    """NAS-Bench-201 cells after 200 epochs (nasbench201_*.csv[.gz]).

    Every file of that name with a column ``arch_str`` is read, and every column of it but
    ``idx``, ``iso_group``, ``params`` and ``macs`` taken for test accuracies; tables of
    latencies have no such column.
    """
    files = find_files(folder, "nasbench201_")
    tables = [
        truth_table(path, arch=_ARCH, others=_OTHERS, group="iso_group")
        for path in files
        if has_column(path, _ARCH)
    ]
    if not tables:
        names = ", ".join(path.name for path in files)
        raise InvalidInputError(f"none of {names} in {folder} has a column {_ARCH!r}")
    return merged(tables)
