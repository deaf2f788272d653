"""What the scripts of ``results/`` share: options, the data, tables, the machine."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scholarch.data import load_data
from scholarch.proxies.batch import Batch
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

Column = npt.NDArray[np.float64]

IMAGES = "cifar10_5k.npz"
S0 = "resnet-cifar-s0"
DEPTHS = (1, 3, 5, 7)

#: |Δ ln params| below which two candidates count as of equal size.
EQUAL_PARAMS = 0.12


@dataclass(frozen=True)
class Options:
    """How a script was called.

    Attributes:
        quick: a minute at most, numbers only indicative.
        data: the folder of real data.
        out: where tables and figures go.
        command: what makes the full table again.
    """

    quick: bool
    data: Path
    out: Path
    command: str


def parse_options(script: str, description: str, needs: Sequence[str]) -> Options:
    """Read the command line; ends the process, in words, where the data are absent.

    Args:
        script: the caller's ``__file__``.
        description: one line.
        needs: names of the files needed in the data folder.
    """
    folder = Path(script).resolve().parent
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="at most a minute, indicative only")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("SCHOLARCH_DATA") or None,
        help="folder of real data (default: SCHOLARCH_DATA)",
    )
    parser.add_argument(
        "--out", type=Path, help="default: the script's folder; with --quick a temporary one"
    )
    given = parser.parse_args()
    if given.data is None:
        print(f"{folder.name}: skipped; give --data or set SCHOLARCH_DATA to the real data")
        sys.exit(0)
    if missing := [name for name in needs if not (given.data / name).exists()]:
        print(f"{folder.name}: skipped; {given.data} has no {', '.join(missing)}")
        sys.exit(0)
    if given.out is not None:
        out = given.out
    elif given.quick:
        out = Path(tempfile.mkdtemp(prefix=f"{folder.name}-"))
    else:
        out = folder
    out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", f"results/{folder.name}/run.py", "--data", "FOLDER"])
    return Options(given.quick, given.data, out, command)


# ---------------------------------------------------------------------- data


def s0_space(num_classes: int = 10) -> SearchSpace:
    """DisWOT's 64 students, for CIFAR-10 images."""
    return create_space(S0, num_classes=num_classes)


def s0_students(space: SearchSpace) -> list[Architecture]:
    """All 64 of them, ``"111"`` first."""
    return [space.parse(f"{a}{b}{c}") for a in DEPTHS for b in DEPTHS for c in DEPTHS]


def real_batch(data: Path, size: int, seed: int) -> Batch:
    """Lossless CIFAR-10 training images."""
    return load_data(data / IMAGES).batch(size, seed)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------- statistics


def pair_accuracy(scores: Column, truth: Column, params: Column) -> tuple[float, int]:
    """Share of pairs of equal size that the scores put in the right order.

    Args:
        scores: of N candidates, higher is better.
        truth: likewise.
        params: a pair counts where |Δ ln params| < :data:`EQUAL_PARAMS`.

    Returns:
        The share, and how many pairs there are. Pairs of equal truth are left out; a tie of
        scores counts one half.
    """
    i, j = np.triu_indices(len(truth), 1)
    size = np.log(params)
    near = (np.abs(size[i] - size[j]) < EQUAL_PARAMS) & (truth[i] != truth[j])
    agreement = np.sign(scores[i] - scores[j]) * np.sign(truth[i] - truth[j])
    return float(np.mean((agreement[near] + 1.0) / 2.0)), int(near.sum())


# ---------------------------------------------------------------------- writing


def machine() -> str:
    """Processor, threads and versions, in one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [s for s in cpuinfo.read_text().splitlines() if s.startswith("model name")]
        if models:
            name = models[0].partition(":")[2].strip()
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{name} ({capability}, {os.cpu_count()} cores, shared), {torch.get_num_threads()} thread,"
        f" torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )


def spread(
    values: Sequence[float] | np.ndarray, *, scale: float = 1.0, digits: int = 1, sign: str = ""
) -> str:
    """Mean ± standard deviation over seeds, times ``scale``; of one seed the value."""
    found = scale * np.asarray(values)
    mean = f"{found.mean():{sign}.{digits}f}"
    return mean if len(found) < 2 else f"{mean} ± {found.std(ddof=1):.{digits}f}"


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table; numbers to the right."""
    heads = list(rows[0])
    numeric = [not isinstance(rows[0][h], str) or _looks_numeric(rows, h) for h in heads]
    lines = [
        "| " + " | ".join(heads) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
    ]
    lines += ["| " + " | ".join(str(row[h]) for h in heads) + " |" for row in rows]
    return "\n".join(lines)


def _looks_numeric(rows: Sequence[Mapping[str, object]], head: str) -> bool:
    return all(str(row[head])[:1] in "0123456789−-+.×–" or not str(row[head]) for row in rows)
