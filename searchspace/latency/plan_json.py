"""Plans as plain data, for tables and packs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .plan import Block, BlockPlan, Slot

__all__ = ["plan_json", "read_plan"]


def plan_json(plan: BlockPlan) -> dict[str, Any]:
    """A plan as plain data."""
    return {
        "cardinalities": list(plan.cardinalities),
        "finer": sorted(plan.finer),
        "blocks": [{"key": b.key, "row": list(b.row), "path": b.path} for b in plan.blocks],
        "slots": [
            {"path": s.path, "columns": list(s.columns), "index": s.index.tolist()}
            for s in plan.slots
        ],
    }


def read_plan(data: Mapping[str, Any]) -> BlockPlan:
    """What :func:`plan_json` wrote; raises ``ValueError`` or ``KeyError`` where it is damaged."""
    blocks = tuple(
        Block(str(b["key"]), tuple(map(int, b["row"])), str(b["path"])) for b in data["blocks"]
    )
    cardinalities = tuple(map(int, data["cardinalities"]))
    slots = []
    for line in data["slots"]:
        index = np.array(line["index"], dtype=np.int64)
        columns = tuple(map(int, line["columns"]))
        size = math.prod(cardinalities[c] for c in columns)
        if index.shape != (size,) or (size and not -1 <= index.min() <= index.max() < len(blocks)):
            raise ValueError(f"slot {line['path']!r} has {index.size} entries, not {size}")
        slots.append(Slot(str(line["path"]), columns, index))
    return BlockPlan(cardinalities, tuple(slots), blocks, frozenset(map(str, data["finer"])))
