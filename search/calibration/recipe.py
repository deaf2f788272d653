"""How labels are made unless told otherwise; imports nothing, so that ``--help`` stays fast."""

from __future__ import annotations

__all__ = ["LABEL_BATCH", "LABEL_EPOCHS", "MIN_LABELS"]

#: Epochs of one label's distillation; the shortest run whose accuracy ranks as the final one
#: does: results/label-length says why.
LABEL_EPOCHS = 10

#: Images a step of it.
LABEL_BATCH = 64

#: Labels without which a rank cannot be corrected: two say no more than which is better.
MIN_LABELS = 3
