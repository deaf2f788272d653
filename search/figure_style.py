"""How the report's figures look, and how they become SVG and PNG.

Figures are drawn in a fixed palette. As SVG each colour of it becomes a CSS variable with the
colour as fallback, so that one picture reads well on a light and on a dark page.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..searchspace.files import write_atomic

__all__ = ["figure_svg", "printable", "save_png", "settle", "style"]

INK, MUTED, LINE, FAINT = "#1c1e21", "#5c636b", "#dfe2e5", "#eceef0"
ACCENT, CARD, DOTS = "#0a5fb4", "#ffffff", "#8a929a"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    FAINT: "--shade",
    ACCENT: "--accent",
    CARD: "--card",
    DOTS: "--dots",
}
# Any: which keys there are is typed differently by matplotlib 3.9 and 3.11.
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same layout everywhere
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in somebody's notation is a dollar sign
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": CARD,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": CARD,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "scholarch",  # else ids, and so bytes, differ from call to call
}
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"


def settle(figure: Figure) -> Figure:
    """Fix the layout: worked out anew at each drawing, it creeps by a fraction of a pixel."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


@contextmanager
def style() -> Iterator[None]:
    """Our settings over matplotlib's defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser has the glyphs of a notation that DejaVu Sans lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def printable(text: str) -> str:
    """``text`` without the control characters and surrogates that XML refuses."""
    return "".join(
        char
        if char.isprintable() or char in "\n\N{NO-BREAK SPACE}"
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def figure_svg(
    figure: Figure, prefix: str, label: str, tips: Mapping[str, str] | None = None
) -> str:
    """An ``<svg>`` element to put into a page; equal bytes for equal figures.

    Args:
        figure: what to draw.
        prefix: put before every id, so that two figures of a page do not share one.
        label: what the picture shows, for those who do not see it.
        tips: id of a marker -> its tooltip.
    """
    with style(), io.StringIO() as stream:
        FigureCanvasSVG(figure).print_figure(
            stream, format="svg", dpi=200, metadata={"Date": None, "Creator": None}
        )
        text = stream.getvalue()
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(text.encode())  # noqa: S314 (written by matplotlib just now)
    for parent in list(root.iter()):
        for child in list(parent):
            # Its style sheet would apply to the whole page.
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _rewrite(element, prefix, tips or {})
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", printable(label))
    # As matplotlib's own style sheet said, but for this picture alone.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    return ElementTree.tostring(root, encoding="unicode")


def _rewrite(element: ElementTree.Element, prefix: str, tips: Mapping[str, str]) -> None:
    """Ids made unique, links as SVG 2 writes them, colours as CSS variables, tooltips added."""
    name = element.attrib.pop("id", None)
    if name is not None:
        element.set("id", f"{prefix}-{name}")
        if name in tips:
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = tips[name]
            element.insert(0, title)
    link = element.attrib.pop(_HREF, None)
    if link is not None:
        element.set("href", f"#{prefix}-{link[1:]}" if link.startswith("#") else link)
    clip = element.get("clip-path")
    if clip is not None:
        element.set("clip-path", clip.replace("url(#", f"url(#{prefix}-"))
    style = element.get("style")
    if style is not None:
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, f"var({variable}, {colour})")
        element.set("style", style)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, 200 dots an inch; equal bytes for equal figures."""
    with style(), io.BytesIO() as stream:
        FigureCanvasAgg(figure).print_figure(
            stream, format="png", dpi=200, metadata={"Software": None}
        )
        write_atomic(path, stream.getvalue())
