"""How well a network does, in words: an accuracy in percent, an agreement as a number."""

from __future__ import annotations

__all__ = ["ACCURACY", "AGREEMENT", "score_text"]

ACCURACY, AGREEMENT = "accuracy", "agreement"
"""What validation maximises: the share that is named rightly, in [0, 1], or, where labels are a
teacher's answers, the correlation of similarities with the teacher's, in [-1, 1]."""


def score_text(value: float, score: str = ACCURACY, digits: int = 1) -> str:
    """A value of a score, e.g. ``"93.4%"`` or ``"0.934"``.

    Args:
        value: of the score.
        score: its name.
        digits: of the percentage behind the point; a number has two more.
    """
    return f"{value:.{digits}%}" if score == ACCURACY else f"{value:.{digits + 2}f}"
