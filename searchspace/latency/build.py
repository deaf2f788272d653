"""Building a block table on this machine: cut, cover, time, fit the overhead, write."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidInputError
from ..files import write_atomic
from ..space import Matrix, SearchSpace
from .bench import Pass, covering_rows, open_session, robust
from .plan import BlockPlan, plan_blocks
from .runtimes.base import Runtime
from .table import BlockTable, BlockTime, Overhead, WholeTime

__all__ = ["Progress", "build_table", "fit_overhead", "host_words"]

Milliseconds = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is, of how much."""

#: Whole networks at least, for the overhead.
NETWORKS = 16
PASSES = 10
SECONDS = 90.0
#: A block whose standard error exceeds this share is measured again.
_SPREAD = 0.02
_AGAIN = 2


@dataclass
class _Work:
    """What is to be measured at one resolution.

    Attributes:
        space: at that resolution.
        plan: its blocks.
        rows: networks.
        passes: done so far.
    """

    space: SearchSpace
    plan: BlockPlan
    rows: Matrix
    passes: list[Pass]


def build_table(
    spaces: Sequence[SearchSpace],
    device: str,
    runtime: Runtime,
    *,
    add_to: BlockTable | None = None,
    partial: Path | None = None,
    passes: int = PASSES,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> BlockTable:
    """Measure every block of a space.

    Args:
        spaces: the space, once for each resolution.
        device: what the machine is called.
        runtime: that will deploy the networks.
        add_to: a table of the same device and setting; only blocks that it lacks are measured.
        partial: file that keeps finished passes, so that a stopped build goes on; removed at the
            end.
        passes: over all networks; more of them withstand more of what else the machine does.
        seconds: to spend measuring at each resolution, beside building and exporting.
        seed: of the networks that are measured.
        progress: told what is done.

    Raises:
        InvalidInputError: if the space cannot be cut, or the table to add to was measured
            otherwise.
    """
    say = progress or (lambda *_: None)
    table = _start(spaces[0], device, runtime, add_to)
    for space in spaces:
        say(f"cutting {space.name} at {space.resolution}", 0, 1)
        plan = plan_blocks(space)
        table.plans[space.resolution] = plan
        needed = [i for i, block in enumerate(plan.blocks) if block.key not in table.blocks]
        if not needed and space.resolution in table.overheads:
            continue
        rows = covering_rows(space, plan, needed, least=NETWORKS, seed=seed)
        work = _Work(space, plan, rows, [])
        _measure(work, table, needed, runtime, partial, passes, seconds, say)
    table.date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if partial is not None:
        partial.unlink(missing_ok=True)
    return BlockTable.from_json(table.to_json(), table.source)


def _start(
    space: SearchSpace, device: str, runtime: Runtime, add_to: BlockTable | None
) -> BlockTable:
    s = runtime.setting
    setting: dict[str, Any] = {
        "runtime": runtime.name,
        "threads": s.threads,
        "batch": s.batch,
        "dtype": s.dtype,
        "accelerator": s.accelerator,
    }
    if add_to is None:
        return BlockTable(
            device=device,
            setting=setting,
            versions=runtime.versions(),
            host=host_words(),
            date="",
            space=space.spec(),
            blocks={},
            overheads={},
        )
    there = {"device": add_to.device, **add_to.setting, "host": add_to.host}
    here = {"device": device, **setting, "host": host_words()}
    for name, value in here.items():
        if there.get(name) != value:
            raise InvalidInputError(
                f"latency table {add_to.source} was measured with {name} {there.get(name)!r}, not"
                f" {value!r}; write to another file"
            )
    if add_to.space["name"] != space.name:
        raise InvalidInputError(
            f"latency table {add_to.source} is of space {add_to.space['name']!r}, not"
            f" {space.name!r}; write to another file"
        )
    return add_to


def _measure(
    work: _Work,
    table: BlockTable,
    needed: list[int],
    runtime: Runtime,
    partial: Path | None,
    passes: int,
    seconds: float,
    say: Progress,
) -> None:
    resolution = work.space.resolution
    kept = _Partial(partial, work, table)
    work.passes = kept.read()
    say(f"loading networks at {resolution}", 0, len(work.rows))
    session = open_session(
        work.space,
        work.plan,
        work.rows,
        runtime,
        progress=lambda done: say(f"loading networks at {resolution}", done, len(work.rows)),
    )
    sweeps = session.sweeps_in(seconds / passes)
    while len(work.passes) < passes:
        say(f"timing blocks at {resolution}", len(work.passes), passes)
        work.passes.append(session.run(sweeps))
        kept.write(work.passes)
    for again in range(_AGAIN):
        _, spread = robust(_parts(work.passes))
        if not np.any(spread[needed] > _SPREAD):
            break
        say(f"timing again at {resolution}", again, _AGAIN)
        work.passes += [session.run(sweeps) for _ in range(passes // 3 + 1)]
        kept.write(work.passes)
    _enter(work, table, needed)


def _parts(passes: Sequence[Pass]) -> Milliseconds:
    """Time of each block in each sweep, the mean over the networks that hold it."""
    stacked = np.concatenate([p.parts for p in passes])  # [sweeps, networks, blocks]
    held = np.isfinite(stacked)
    total = np.where(held, stacked, 0.0).sum(axis=1)
    count = held.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _enter(work: _Work, table: BlockTable, needed: list[int]) -> None:
    ms, spread = robust(_parts(work.passes))
    for i in needed:
        table.blocks[work.plan.blocks[i].key] = BlockTime(
            float(ms[i]), float(spread[i]), len(work.passes)
        )
    whole, error = robust(np.concatenate([p.whole for p in work.passes]))
    every = np.array([table.blocks[block.key].ms for block in work.plan.blocks])
    sums = work.plan.total(every, work.rows)
    table.overheads[work.space.resolution] = fit_overhead(sums, whole)
    for arch, time, wobble in zip(work.space.decode(work.rows), whole, error, strict=True):
        table.wholes.append(WholeTime(arch.text, work.space.resolution, float(time), float(wobble)))


def fit_overhead(sums: Milliseconds, whole: Milliseconds) -> Overhead:
    """Overhead and scale that turn sums of blocks into times of whole networks.

    Least squares of the relative error. Where all networks are about as large, the two cannot be
    told apart: the overhead is then taken as it is, for a scale of 1.
    """
    spread = sums.std() / sums.mean() if len(sums) and sums.mean() > 0 else 0.0
    if len(sums) < 3 or spread < 0.02:
        ms = float(np.median(whole - sums)) if len(sums) else 0.0
        return Overhead(ms, 1.0, len(sums), _error(ms + sums, whole))
    design = np.stack([1.0 / whole, sums / whole], axis=1)
    (ms, scale), *_ = np.linalg.lstsq(design, np.ones(len(whole)), rcond=None)
    if scale <= 0.0:
        ms, scale = float(np.median(whole - sums)), 1.0
    return Overhead(float(ms), float(scale), len(sums), _error(ms + scale * sums, whole))


def _error(predicted: Milliseconds, whole: Milliseconds) -> float:
    return float(np.mean(np.abs(predicted - whole) / whole)) if len(whole) else 0.0


def host_words() -> str:
    """The machine in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {platform.system()} {platform.machine()}"


class _Partial:
    """Finished passes on disk, for a build that is stopped and run again."""

    def __init__(self, path: Path | None, work: _Work, table: BlockTable) -> None:
        self.path = path
        self.what = {
            "space": work.space.spec(),
            "setting": table.setting,
            "versions": table.versions,
            "host": table.host,
            "rows": work.rows.tolist(),
        }

    def read(self) -> list[Pass]:
        if self.path is None or not self.path.exists():
            return []
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["what"] != self.what:
                return []
            return [
                Pass(
                    np.array(p["whole"], dtype=np.float64),
                    np.array(p["parts"], dtype=np.float64),  # null becomes NaN
                )
                for p in data["passes"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # cut short by whatever stopped the build: measured again

    def write(self, passes: Sequence[Pass]) -> None:
        if self.path is None:
            return
        lines = [
            {
                "whole": p.whole.tolist(),
                "parts": [
                    [[t if np.isfinite(t) else None for t in row] for row in sweep]
                    for sweep in p.parts.tolist()
                ],
            }
            for p in passes
        ]
        write_atomic(self.path, json.dumps({"what": self.what, "passes": lines}))
