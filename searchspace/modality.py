"""What inputs can be, images, text or sound, and in what their size is counted."""

from __future__ import annotations

__all__ = ["ITEMS", "MODALITIES", "PLURALS", "SAMPLE_RATE", "UNITS", "size_text"]

MODALITIES = ("image", "text", "sound")
"""What the input of a space, a teacher or a data set is."""

UNITS = {"image": "pixels", "text": "tokens", "sound": "samples"}
"""What a resolution counts: pixels a side, tokens, or samples of sound."""

PLURALS = {"image": "images", "text": "text", "sound": "sound"}
"""What many such inputs are called."""

ITEMS = {"image": "images", "text": "sentences", "sound": "clips"}
"""What a data set's inputs are called where they are counted."""

SAMPLE_RATE = 16_000
"""Samples of sound a second."""


def size_text(modality: str, resolution: int) -> str:
    """An input's size in words: ``32×32 pixels``, ``128 tokens``, ``16000 samples (1 s)``."""
    if modality == "image":
        return f"{resolution}×{resolution} pixels"
    seconds = f" ({resolution / SAMPLE_RATE:.3g} s)" if modality == "sound" else ""
    return f"{resolution} {UNITS[modality]}{seconds}"
