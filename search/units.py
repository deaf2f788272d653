"""Numbers as people read them: ``9.83 M MACs``, ``2.3 ms``, ``155 k parameters``."""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = [
    "column_scale",
    "cost_head",
    "cost_label",
    "cost_text",
    "cost_value",
    "decimal",
    "number",
    "percent",
    "scale_of",
]

_PREFIXES = ("", "k", "M", "G", "T", "P")
#: A no-break space: a number and its unit stay on one line.
_GAP = "\N{NO-BREAK SPACE}"
_MINUS = "\N{MINUS SIGN}"
_DASH = "\N{EN DASH}"

_LABELS = {
    "params": "parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "depth": "depth",
    "peak_memory": "peak memory (bytes)",
    "weight_memory": "memory of weights (bytes)",
}
_UNITS = {
    "params": "parameters",
    "macs": "MACs",
    "flops": "FLOPs",
    "depth": "layers",
    "peak_memory": "bytes of peak memory",
    "weight_memory": "bytes of weights",
}


def scale_of(value: float) -> tuple[float, str]:
    """Divisor and SI prefix that bring ``value`` into 1 … 999 (after rounding to 3 digits)."""
    size = abs(value)
    if not math.isfinite(size) or size < 1:
        return 1.0, ""
    # Rounded first, so that 999,960 reads "1 M" and not "1000 k".
    power = math.floor(math.log10(float(f"{size:.3g}"))) // 3
    power = min(power, len(_PREFIXES) - 1)
    return 1000.0**power, _PREFIXES[power]


def number(value: float) -> str:
    """Three significant digits and an SI prefix: ``9830000 -> "9.83 M"``."""
    if not math.isfinite(value):
        return _DASH
    divisor, prefix = scale_of(value)
    scaled = value / divisor
    if scaled == int(scaled) and abs(scaled) < 1000:
        text = f"{int(scaled)}"
    else:
        text = f"{scaled:.3g}"
    text = text.replace("-", _MINUS)
    return f"{text}{_GAP}{prefix}" if prefix else text


def percent(value: float | None) -> str:
    """A share as a percentage with two decimals; NaN and ``None`` are a dash."""
    if value is None or not math.isfinite(value):
        return _DASH
    return f"{100 * value:.2f}\N{NO-BREAK SPACE}%"


def decimal(value: float, digits: int | None = None) -> str:
    """A score: ``digits`` decimals, or as many as four significant digits need; NaN is a dash."""
    if not math.isfinite(value):
        return _DASH
    if digits is not None:
        text = f"{value:.{digits}f}"
    elif 1e3 <= abs(value) < 1e5:
        text = f"{value:.0f}"  # .4g would write 10000 as 1e+04
    elif value == 0 or 1e-3 <= abs(value) < 1e3:
        text = f"{value:.4g}"
    else:
        text = f"{value:.3e}"
    return text.replace("-", _MINUS)


def _latency_device(cost: str) -> str | None:
    head, _, device = cost.partition(":")
    return device or "this machine" if head == "latency" else None


def cost_label(cost: str) -> str:
    """What a cost is called on an axis or in a header: ``macs -> "MACs"``."""
    device = _latency_device(cost)
    return f"latency on {device}" if device else _LABELS.get(cost, cost)


def cost_head(cost: str) -> str:
    """The short form of :func:`cost_label`, for the head of a table's column."""
    return "params" if cost == "params" else cost_label(cost)


def cost_value(cost: str, value: float) -> str:
    """A cost without its name, as in "of **15 M** allowed"."""
    if not math.isfinite(value):
        return _DASH
    return f"{number(value)}{_GAP}ms" if _latency_device(cost) else number(value)


def cost_text(cost: str, value: float) -> str:
    """A cost with its name: ``9.83 M MACs``, ``2.3 ms on cpu``, ``40 layers``."""
    device = _latency_device(cost)
    if device:
        return f"{cost_value(cost, value)} on {device}"
    unit = _UNITS.get(cost, cost)
    if value == 1 and cost == "depth":
        unit = "layer"
    return f"{number(value)}{_GAP}{unit}"


def column_scale(cost: str, values: Iterable[float]) -> tuple[float, str]:
    """One divisor and unit for a whole table column, from its largest value."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    if _latency_device(cost):
        return 1.0, "ms"
    return scale_of(max(finite, default=0.0))
