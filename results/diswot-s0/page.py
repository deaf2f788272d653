"""The page that tells what the table says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from _common import EQUAL_PARAMS, Options, machine, markdown_table
from rows import CONTROLS, RULE, TRAINED, Row, spread_of

from scholarch.proxies.ensemble import ENSEMBLES

HEADS = {
    "reference": "References: no score at all, and accuracy after training without a teacher",
    "size": "Sizes",
    "teacher-free": "Scores that take no teacher",
    "takes a teacher": "Scores that take the teacher",
}


def measured(values: Sequence[float], of_mean: float) -> dict[str, str]:
    """Mean ± standard deviation over seeds, and what the averaged score gives."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return {"a seed": "", "averaged": f"{mean:.3f}"}
    return {"a seed": f"{mean:.3f} ± {spread_of(values):.3f}", "averaged": f"{of_mean:.3f}"}


def cells(row: Row) -> dict[str, str]:
    tau, rho = measured(row.tau, row.tau_mean), measured(row.rho, row.rho_mean)
    pairs = measured(row.pairs, row.pairs_mean)
    name = f"`{row.name}`" if row.kind != "reference" else row.name
    return {
        "score": name,
        "τ a seed": tau["a seed"],
        "τ averaged": f"**{tau['averaged']}**",
        "ρ a seed": rho["a seed"],
        "ρ averaged": rho["averaged"],
        "equal-size pairs a seed": pairs["a seed"],
        "equal-size pairs averaged": pairs["averaged"],
    }


def control_cells(name: str, found: Mapping[str, Row], verdict: str) -> dict[str, str]:
    columns = {}
    for teacher in (TRAINED, *CONTROLS):
        tau = found[teacher].tau
        columns[teacher] = f"{tau.mean():.3f} ± {spread_of(tau):.3f}"
    return {"score": f"`{name}`", **columns, "verdict": verdict}


def sentences(rows: Sequence[Row], verdicts: Mapping[str, str]) -> str:
    """What stands out, read off the rows."""
    by_name = {row.name: row for row in rows if row.teacher in ("", TRAINED)}
    params = by_name["params"]
    scored = [row for row in by_name.values() if row.kind in ("teacher-free", "takes a teacher")]
    better = [row for row in scored if row.tau_mean > params.tau_mean]
    names = ", ".join(f"`{row.name}` ({row.tau_mean:.3f})" for row in better)
    lines = [
        f"- The parameter count ranks distilled accuracies with τ = {params.tau_mean:.3f}. Of"
        f" {len(scored)} training-free scores "
        + (f"these rank better: {names}." if better else "none ranks better."),
    ]
    free = [name for name, text in verdicts.items() if text.startswith("teacher-free")]
    lines.append(
        f"- {len(free)} of {len(verdicts)} scores that take the teacher are teacher-free by the"
        " rule below"
        + (
            "."
            if len(free) == len(verdicts)
            else "; the others: "
            + ", ".join(f"`{name}`" for name in verdicts if name not in free)
            + "."
        )
    )
    best = max((row for row in scored if row.kind == "takes a teacher"), key=lambda r: r.tau_mean)
    lines.append(
        f"- The best of them, `{best.name}`, has τ = {best.tau_mean:.3f} averaged over seeds and"
        f" orders {best.pairs_mean:.0%} of the pairs of equal size (params:"
        f" {params.pairs_mean:.0%}; chance: 50%)."
    )
    ensembles = [by_name[name] for name in ENSEMBLES if name in by_name]
    lines += [
        f"- `{row.name}`, Σ log-rank of {' and '.join(ENSEMBLES[row.name].parts)}, has"
        f" τ = {row.tau_mean:.3f}; it was chosen on other benchmarks, and on this space loses to"
        " the parameter count."
        if row.tau_mean < params.tau_mean
        else f"- `{row.name}` has τ = {row.tau_mean:.3f}."
        for row in ensembles
    ]
    return "\n".join(lines)


def write_page(
    options: Options,
    rows: Sequence[Row],
    guided: Mapping[str, Mapping[str, Row]],
    verdicts: Mapping[str, str],
    *,
    seeds: range,
    size: int,
    pairs: int,
) -> str:
    """Write ``README.md``; returns its text."""
    tables = []
    for kind, head in HEADS.items():
        found = [r for r in rows if r.kind == kind and r.teacher in ("", TRAINED)]
        tables.append(f"### {head}\n\n{markdown_table([cells(row) for row in found])}")
    controls = markdown_table(
        [control_cells(name, found, verdicts[name]) for name, found in guided.items()]
    )
    failed = [row for row in rows if row.failures]
    failures = "none" if not failed else ", ".join(f"{r.name}: {r.failures}" for r in failed)
    quick = "\n**Quick run**: few seeds and a small batch; numbers are indicative.\n"
    text = f"""# Scores against distilled accuracy on DisWOT's S0

64 CIFAR ResNets, widths 16/16/32/64, blocks a stage in {{1, 3, 5, 7}}; their distilled
accuracies on CIFAR-100 are those published with DisWOT. Scores see {size} real CIFAR-10 images
and a ResNet-56 trained on CIFAR-10. Nothing was tuned on this table.
{quick if options.quick else ""}
![Kendall's τ of every score](tau.png)

{sentences(rows, verdicts)}

## Every score

τ is Kendall's, ρ Spearman's, both with distilled accuracy; pairs of equal size are the {pairs}
with |Δ ln params| < {EQUAL_PARAMS}, ".5" is chance. "A seed": mean ± standard deviation over
{len(seeds)} seeds; "averaged": of the score averaged over them. Sizes have no seed.

{chr(10).join(f"{table}{chr(10)}" for table in tables)}
## What the teacher adds

τ a seed with the trained teacher and under four controls: its channels in another order, what
it says of one image said of another, a teacher that says of all images what it says on average,
and a ResNet-56 that was never trained.

{controls}

{RULE}

With 100 classes and a random teacher of N(0, 1) weights, the released code's own setting, the
released score ranks better, and as teacher-free: [released.md](released.md).

## How

- Make it again: `{options.command}`; a minute's version: with `--quick`.
- Seeds {seeds[0]} to {seeds[-1]}: each draws the images, the nested weights, the random
  teacher and the shuffles.
- Failures (missing values, left out of the statistics): {failures}.
- Params are those of the 100-class networks whose accuracies these are.
- Machine: {machine()}.
"""
    (options.out / "README.md").write_text(text, encoding="utf-8")
    return text
