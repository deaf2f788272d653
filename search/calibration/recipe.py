"""How labels are made unless told otherwise; imports nothing, so that ``--help`` stays fast."""

from __future__ import annotations

__all__ = ["LABEL_BATCH", "LABEL_EPOCHS", "MIN_LABELS"]

#: Epochs of one label's distillation. results/label-length: below 60 steps a label says nothing of
#: a run of 312, and half of its length already ranks as the whole does. How short runs rank long
#: ones was not measured, so this is not the shortest of them.
LABEL_EPOCHS = 10

#: Images a step of it.
LABEL_BATCH = 64

#: Labels without which a rank cannot be corrected: two say no more than which is better.
MIN_LABELS = 3
