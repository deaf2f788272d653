"""What a refined search looks like in a terminal when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["print_refined"]


def print_refined(told: Mapping[str, Any], out: Path) -> None:
    """What was left of the space, how the supernet and the student did, where it all lies.

    Args:
        told: the content of ``refine.json``.
        out: the folder.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    before, after = told["sizes"]
    narrowed = [gene for gene in told["genes"] if len(gene["kept"]) < len(gene["values"])]
    console.print(
        f"space: {before:,} combinations narrowed to {after:,} by {len(narrowed)} of"
        f" {len(told['genes'])} genes"
    )
    for gene in narrowed:
        kept = " ".join(map(str, gene["kept"]))
        console.print(f"  {gene['gene']}: {kept} of {' '.join(map(str, gene['values']))}")
    trained = told["training"]
    ends = [trained["landmarks"][name]["accuracy"] for name in ("smallest", "largest")]
    if None not in ends:
        console.print(
            f"supernet: {trained['steps']:,} steps; smallest {ends[0]:.2%}, largest {ends[1]:.2%}"
            " on the validation part"
        )
    tuned = told["finetune"]
    console.print(f"student: {tuned['arch']}", soft_wrap=True)
    after_text = "" if tuned["after"] is None else f", fine-tuned {tuned['after']:.2%}"
    test = "" if tuned["test"] is None else f"; test {tuned['test']:.2%}"
    console.print(
        f"validation: inherited {tuned['before']:.2%}{after_text}; kept: {tuned['kept']}{test}"
    )
    console.print(f"weights: {out}/student", soft_wrap=True)
    if told.get("onnx"):
        console.print(f"onnx: {out}/{told['onnx']}", soft_wrap=True)
    console.print(f"report: {out}/report.html", soft_wrap=True)
