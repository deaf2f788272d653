"""ViT-Bench: vision Transformers on small data, distilled and not (Auto-Prox, AAAI 2024).

Students were trained on images of 224 pixels in patches of 16, and their sizes are quoted so.
Scored they are on the images at hand, CIFAR's 32 pixels in patches of 4: no image has to be
blown up first. ``--resolution 224 --option patch_size=16`` scores the networks as trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..searchspace.errors import InvalidInputError
from .registry import register_benchmark
from .tables import TruthTable, accuracies, read_json

__all__ = ["vitbench_autoformer", "vitbench_pit"]

_FILE = "vit_bench_cifar100.json"
_NOT_TRUTH = {"space", "arch"}
_PUBLISHED = {"num_classes": 100, "resolution": 224}
_SCORED = {"patch_size": 4}
_TRUTH = "cifar100_kd"


@register_benchmark(
    "vitbench-autoformer",
    space="vitbench-autoformer",
    truth=_TRUTH,
    published=_PUBLISHED,
    scored=_SCORED,
)
def vitbench_autoformer(folder: Path) -> TruthTable:
    """AutoFormer-Ti students, distilled from a ResNet-56 and plain (vit_bench_cifar100.json)."""
    return _read(folder / _FILE, "autoformer")


@register_benchmark(
    "vitbench-pit", space="vitbench-pit", truth=_TRUTH, published=_PUBLISHED, scored=_SCORED
)
def vitbench_pit(folder: Path) -> TruthTable:
    """PiT students, distilled from a ResNet-56 and plain (vit_bench_cifar100.json)."""
    return _read(folder / _FILE, "pit")


def _read(path: Path, space: str) -> TruthTable:
    """Rows of one space; every key of theirs but ``space`` and ``arch`` is an accuracy."""
    data = read_json(path)
    if not isinstance(data, list) or not all(
        isinstance(row, Mapping) and isinstance(row.get("arch"), Mapping) for row in data
    ):
        raise InvalidInputError(f"{path}: need a list of objects with space, arch and accuracies")
    rows: list[Mapping[str, Any]] = [row for row in data if row.get("space") == space]
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _NOT_TRUTH))
    if not names:
        raise InvalidInputError(f"{path} holds no accuracies of space {space!r}")
    return TruthTable(
        tuple(json.dumps(row["arch"]) for row in rows),
        {name: accuracies(rows, name, path) for name in names},
        path.name,
    )
