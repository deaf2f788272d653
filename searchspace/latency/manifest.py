"""What a pack of ONNX files says of itself: what each is, and at which shapes to time it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from .checks import damage
from .plan import BlockPlan
from .plan_json import plan_json, read_plan
from .table import read_json
from .tools.base import Timing

__all__ = ["Manifest", "NetworkTiming", "read_manifest"]

FORMAT = "scholarch-latency-pack"
VERSION = 1
FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class NetworkTiming:
    """A whole network that is timed for the overhead.

    Attributes:
        timing: name of its timing.
        arch: in the space's notation.
        row: its gene indices.
        resolution: of its images.
    """

    timing: str
    arch: str
    row: tuple[int, ...]
    resolution: int


@dataclass(frozen=True, eq=False)
class Manifest:
    """A pack's content.

    Attributes:
        space: its ``spec()``.
        batch: images in a call.
        versions: of the packages that wrote the files.
        timings: everything to be timed.
        call: name of the timing of a graph that does almost nothing.
        blocks: key of each block → name of its timing; ``None``: it takes no time.
        networks: whole networks.
        plans: resolution → where which block stands.
    """

    space: dict[str, Any]
    batch: int
    versions: dict[str, str]
    timings: tuple[Timing, ...]
    call: str
    blocks: dict[str, str | None]
    networks: tuple[NetworkTiming, ...]
    plans: dict[int, BlockPlan]

    def to_json(self) -> dict[str, Any]:
        """Plain data: for each file its kind, and for each of its shapes what that stands for."""
        keys = {name: key for key, name in self.blocks.items() if name is not None}
        networks = {network.timing: network for network in self.networks}
        files: dict[str, dict[str, Any]] = {}
        for timing in self.timings:
            kind = "network" if timing.name in networks else "block"
            kind = "call" if timing.name == self.call else kind
            entry = files.setdefault(
                timing.file,
                {"file": timing.file, "kind": kind, "free": timing.free, "inputs": []},
            )
            line: dict[str, Any] = {"result": timing.name, "shape": list(timing.shape)}
            if kind == "block":
                line["key"] = keys[timing.name]
            elif kind == "network":
                network = networks[timing.name]
                line |= {
                    "arch": network.arch,
                    "row": list(network.row),
                    "resolution": network.resolution,
                }
            entry["inputs"].append(line)
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": self.space,
            "batch": self.batch,
            "versions": self.versions,
            "files": list(files.values()),
            "free_of_cost": [key for key, name in self.blocks.items() if name is None],
            "plans": {str(side): plan_json(plan) for side, plan in sorted(self.plans.items())},
        }

    def write(self, folder: Path) -> None:
        """Write it into a pack's folder."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        (folder / FILE).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a pack's folder.

    Raises:
        InvalidInputError: if there is none, it is damaged, or of another version.
    """
    path = folder / FILE
    if not path.exists():
        raise InvalidInputError(
            f"{folder} is no pack: it lacks {FILE}; make one by scholarch latency pack"
        )
    data = read_json(path)
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise InvalidInputError(f"{path} is no manifest of a pack; scholarch latency pack makes it")
    if data.get("version") != VERSION:
        raise InvalidInputError(
            f"{path} has version {data.get('version')!r}; this scholarch reads {VERSION}: make the"
            " pack again"
        )
    try:
        return _from_json(data)
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise InvalidInputError(f"{path} {damage(error)}; make the pack again") from error


def _from_json(data: Mapping[str, Any]) -> Manifest:
    timings: list[Timing] = []
    blocks: dict[str, str | None] = {str(key): None for key in data["free_of_cost"]}
    networks: list[NetworkTiming] = []
    call = ""
    for entry in data["files"]:
        for line in entry["inputs"]:
            name = str(line["result"])
            shape = tuple(map(int, line["shape"]))
            timings.append(Timing(name, str(entry["file"]), shape, bool(entry["free"])))
            if entry["kind"] == "network":
                row = tuple(map(int, line["row"]))
                networks.append(
                    NetworkTiming(name, str(line["arch"]), row, int(line["resolution"]))
                )
            elif entry["kind"] == "call":
                call = name
            else:
                blocks[str(line["key"])] = name
    plans = {int(side): read_plan(plan) for side, plan in data["plans"].items()}
    for plan in plans.values():
        for block in plan.blocks:
            if block.key not in blocks:
                raise KeyError(block.key)
    return Manifest(
        space=dict(data["space"]),
        batch=int(data["batch"]),
        versions=dict(data["versions"]),
        timings=tuple(timings),
        call=call,
        blocks=blocks,
        networks=tuple(networks),
        plans=plans,
    )
