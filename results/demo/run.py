"""The demo's picture and table, as the README shows them.

python results/demo/run.py            # writes front.png and table.md beside this file
python results/demo/run.py --quick    # 64 evaluations, into a temporary folder
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import scholarch
from scholarch.search.budget import human
from scholarch.search.figures import front_figure, save_png
from scholarch.search.result import SearchResult
from scholarch.search.summary import report_data

#: As in the Makefile's `demo`.
SETTINGS = {"space": "resnet-cifar", "data": "digits", "budget": {"macs": 20e6}, "seed": 0}
ROWS = 8


def markdown(result: SearchResult) -> str:
    """Some of the front, evenly spaced by rank, as a Markdown table."""
    front, pick = result.front, result.pick
    step = (len(front) - 1) / (ROWS - 1)
    shown = [front[round(i * step)] for i in range(ROWS)]
    lines = [
        "| | architecture | score | parameters | MACs | diswot-semantic | diswot-relation |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {'▶' if c is pick else ''} | `{c.arch}` | {c.score:.3f} | {human(c.costs['params'])}"
        f" | {human(c.costs['macs'])} | {c.scores['diswot-semantic']:.4f}"
        f" | {c.scores['diswot-relation']:.5f} |"
        for c in shown
    ]
    lines.append("")
    lines.append(
        f"{ROWS} of the {len(front)} students on the front; {len(result.candidates)} architectures"
        f" evaluated, none trained. Written `stem width - width x blocks` of each stage."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    quick = Path(tempfile.mkdtemp(prefix="scholarch-demo-")) if options.quick else None
    out = options.out or quick or Path(__file__).parent
    result = scholarch.find_student(**SETTINGS, evaluations=64 if options.quick else 500)
    save_png(front_figure(report_data(result), "macs"), out / "front.png")
    (out / "table.md").write_text(markdown(result))
    print(markdown(result))
    print(f"written to {out}")


if __name__ == "__main__":
    main()
