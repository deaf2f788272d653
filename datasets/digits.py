"""The 8×8 handwritten digits that scikit-learn ships (UCI Optdigits, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import numpy as np

from .arrays import Part
from .dataset import DataSet, make_dataset

__all__ = ["load_digits"]

#: Each pixel becomes 4×4, so that the digits have CIFAR's 32×32.
SCALE = 4
LEVELS = 16
TEST_FRACTION = 0.2
VAL_FRACTION = 0.1


def load_digits() -> DataSet:
    """The digits at 32×32, three equal channels: 1,797 images in 10 classes.

    The split is fixed, whatever the seed: the bundled teacher has seen the training part.
    """
    from sklearn.datasets import load_digits as load

    grey, labels = load(return_X_y=True)
    pixels = np.rint(grey.reshape(-1, 8, 8) * (255.0 / LEVELS)).astype(np.uint8)
    pixels = pixels.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    images = np.ascontiguousarray(np.repeat(pixels[..., None], 3, axis=3))
    return make_dataset(
        "digits",
        Part(images, labels.astype(np.int64)),
        None,
        None,
        seed=0,
        val_fraction=VAL_FRACTION,
        test_fraction=TEST_FRACTION,
        class_names=tuple("0123456789"),
    )
