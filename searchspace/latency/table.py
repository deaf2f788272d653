"""A latency table of blocks: what `scholarch latency build` measured on one device.

The latency of a network is ``overhead + scale · Σ blocks``; both numbers are fitted on a few
whole networks, since calling a network costs something beside its blocks.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError
from ..space import Matrix, SearchSpace
from .checks import damage, milliseconds
from .plan import BlockPlan, plan_blocks
from .plan_json import plan_json, read_plan

__all__ = [
    "FORMAT",
    "BlockTable",
    "BlockTime",
    "Overhead",
    "WholeTime",
    "pixels_of",
]

FORMAT = "scholarch-latency-blocks"
VERSION = 1
UNIT = "ms"


@dataclass(frozen=True, slots=True)
class BlockTime:
    """Time of one block.

    Attributes:
        ms: median.
        spread: standard error relative to it.
        passes: it was measured in.
    """

    ms: float
    spread: float = 0.0
    passes: int = 1


@dataclass(frozen=True, slots=True)
class Overhead:
    """What a network takes beside its blocks, at one resolution.

    Attributes:
        ms: of a call.
        scale: of the sum of blocks.
        networks: whole networks that both were fitted on.
        error: mean absolute error of the fit, relative.
    """

    ms: float = 0.0
    scale: float = 1.0
    networks: int = 0
    error: float = math.nan


@dataclass(frozen=True, slots=True)
class WholeTime:
    """A whole network that was measured while the table was built.

    Attributes:
        arch: in the space's notation.
        resolution: of its images.
        ms: median.
        spread: standard error relative to it.
    """

    arch: str
    resolution: int
    ms: float
    spread: float = 0.0


@dataclass(eq=False)
class BlockTable:
    """Latencies of one space's blocks on one device.

    Attributes:
        device: name.
        setting: runtime, threads, batch, dtype, accelerator.
        versions: of the packages that decide on speed.
        host: the machine in words.
        date: of the last measurement, ISO 8601.
        space: the space's ``spec()``, its resolution the one measured first.
        blocks: key → time.
        overheads: resolution → overhead.
        wholes: whole networks.
        plans: resolution → where which block stands; found again where one is missing.
        fingerprint: of the file.
        source: where it came from, for messages.
        rows: ``None``: every architecture is known.
    """

    device: str
    setting: dict[str, Any]
    versions: dict[str, str]
    host: str
    date: str
    space: dict[str, Any]
    blocks: dict[str, BlockTime]
    overheads: dict[int, Overhead]
    wholes: list[WholeTime] = field(default_factory=list)
    plans: dict[int, BlockPlan] = field(default_factory=dict)
    fingerprint: str = ""
    source: str = "table"
    rows: Matrix | None = None

    def __post_init__(self) -> None:
        self._ready: dict[str, tuple[BlockPlan, npt.NDArray[np.float64], Overhead]] = {}

    # ------------------------------------------------------------------ prediction

    def latency(self, space: SearchSpace, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Milliseconds of N architectures, ``[N]``.

        Raises:
            InvalidInputError: if blocks of the space are missing; names them and the way out.
        """
        plan, ms, overhead = self.ready(space)
        return overhead.ms + overhead.scale * plan.total(ms, matrix)

    def ready(self, space: SearchSpace) -> tuple[BlockPlan, npt.NDArray[np.float64], Overhead]:
        """The space's plan, the time of each of its blocks ``[blocks]``, and its overhead."""
        code = json.dumps(space.spec(), sort_keys=True)
        if code not in self._ready:
            self._ready[code] = self._fit_to(space)
        return self._ready[code]

    def _fit_to(self, space: SearchSpace) -> tuple[BlockPlan, npt.NDArray[np.float64], Overhead]:
        if space.name != self.space["name"]:
            raise InvalidInputError(
                f"latency table {self.source} is of space {self.space['name']!r}, not"
                f" {space.name!r}; build one of that space, or search the table's"
            )
        plan = self.plans.get(space.resolution)
        if plan is None or not self._same_but_resolution(space):
            plan = plan_blocks(space)
        times = [self.time_of(block.key) for block in plan.blocks]
        missing = [b.key for b, ms in zip(plan.blocks, times, strict=True) if math.isnan(ms)]
        if missing:
            raise InvalidInputError(
                f"latency table {self.source} lacks {len(missing)} of {len(times)} blocks of space"
                f" {space.name!r} at {_words(space)}, such as {missing[0]!r}; {self._way_out()}"
            )
        return plan, np.array(times, dtype=np.float64), self._overhead(space.resolution)

    def _way_out(self) -> str:
        if "statistic" in self.setting:  # of a device without Python
            return "pack the space as it is now (scholarch latency pack), time it, import it"
        return f"add just those by scholarch latency build --out {self.source} with these numbers"

    def _same_but_resolution(self, space: SearchSpace) -> bool:
        return space.spec() | {"resolution": 0} == self.space | {"resolution": 0}

    def time_of(self, key: str) -> float:
        """Milliseconds of a block; between two resolutions interpolated, else NaN."""
        if key in self.blocks:
            return self.blocks[key].ms
        pixels, rest = pixels_of(key)
        if pixels is None:
            return math.nan
        if not hasattr(self, "_by_layers"):
            self._by_layers: dict[str, list[tuple[int, float]]] = {}
            for known, time in self.blocks.items():
                count, layers = pixels_of(known)
                if count is not None:
                    self._by_layers.setdefault(layers, []).append((count, time.ms))
        points = sorted(self._by_layers.get(rest, ()))
        if len(points) < 2 or not points[0][0] <= pixels <= points[-1][0]:
            return math.nan
        counts, times = zip(*points, strict=True)
        return float(np.interp(float(pixels), counts, times))

    def _overhead(self, resolution: int) -> Overhead:
        if resolution in self.overheads or not self.overheads:
            return self.overheads.get(resolution, Overhead())
        known = sorted(self.overheads)
        ms = np.interp(resolution, known, [self.overheads[r].ms for r in known])
        scale = np.interp(resolution, known, [self.overheads[r].scale for r in known])
        return Overhead(float(ms), float(scale))

    # ------------------------------------------------------------------ files

    def to_json(self) -> dict[str, Any]:
        """Plain data; all times in ms."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "unit": UNIT,
            "device": self.device,
            "setting": self.setting,
            "versions": self.versions,
            "host": self.host,
            "date": self.date,
            "space": self.space,
            "overheads": {
                str(r): {
                    "ms": o.ms,
                    "scale": o.scale,
                    "networks": o.networks,
                    "error": None if math.isnan(o.error) else o.error,
                }
                for r, o in sorted(self.overheads.items())
            },
            "blocks": {
                key: {"ms": t.ms, "spread": t.spread, "passes": t.passes}
                for key, t in self.blocks.items()
            },
            "networks": [
                {"arch": w.arch, "resolution": w.resolution, "ms": w.ms, "spread": w.spread}
                for w in self.wholes
            ],
            "plans": {str(r): plan_json(plan) for r, plan in sorted(self.plans.items())},
        }

    def dumps(self) -> str:
        """:meth:`to_json` as text."""
        return json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "table") -> BlockTable:
        """What :meth:`to_json` wrote.

        Raises:
            InvalidInputError: if something is missing, of another kind or unit, not a number,
                or below 0; names what.
        """
        if data.get("unit") != UNIT:
            raise InvalidInputError(
                f"latency table {source} is in {data.get('unit')!r}; need unit {UNIT!r}: multiply"
                " seconds by 1000 and say so"
            )
        if data.get("version") != VERSION:
            raise InvalidInputError(
                f"latency table {source} has version {data.get('version')!r}; this scholarch"
                f" reads {VERSION}"
            )
        try:
            table = cls(
                device=str(data["device"]),
                setting=dict(data["setting"]),
                versions=dict(data["versions"]),
                host=str(data["host"]),
                date=str(data["date"]),
                space=dict(data["space"]),
                blocks={
                    key: BlockTime(
                        milliseconds(line["ms"], f"latency table {source}: block {key!r}"),
                        float(line.get("spread", 0.0)),
                        int(line.get("passes", 1)),
                    )
                    for key, line in data["blocks"].items()
                },
                overheads={
                    int(r): Overhead(
                        float(o["ms"]),
                        milliseconds(o["scale"], f"latency table {source}: a scale"),
                        int(o.get("networks", 0)),
                        math.nan if o.get("error") is None else float(o["error"]),
                    )
                    for r, o in data["overheads"].items()
                },
                wholes=[
                    WholeTime(
                        str(w["arch"]),
                        int(w["resolution"]),
                        milliseconds(w["ms"], f"latency table {source}: network {w['arch']!r}"),
                        float(w.get("spread", 0.0)),
                    )
                    for w in data.get("networks", ())
                ],
                plans={int(r): read_plan(plan) for r, plan in data.get("plans", {}).items()},
                source=source,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(
                f"latency table {source} {damage(error)}; build it again by scholarch latency build"
            ) from error
        table.fingerprint = fingerprint_of(table.to_json())
        return table

    def renamed(self, device: str) -> BlockTable:
        """The same table under another device's name."""
        return replace(self, device=device)


def fingerprint_of(data: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of what decides on predictions."""
    said = {name: data[name] for name in ("blocks", "overheads", "space", "setting")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def read_json(path: Path) -> Any:
    """A JSON file's content; :class:`InvalidInputError` in one line where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"cannot read the latency table {path}: {error.strerror or error}"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidInputError(
            f"latency table {path} is no JSON, or was cut short: {error}; build it again by"
            " scholarch latency build"
        ) from error


def pixels_of(key: str) -> tuple[int | None, str]:
    """Height × width of a block's input, and the key without them."""
    given, _, layers = key.partition(" ")
    sides = given.split("x")
    if len(sides) != 3 or not all(side.isdigit() for side in sides):
        return None, key
    return int(sides[1]) * int(sides[2]), f"{sides[0]} {layers}"


def _words(space: SearchSpace) -> str:
    spec = space.spec()
    return ", ".join(f"{name} {value}" for name, value in spec.items() if name != "name")
