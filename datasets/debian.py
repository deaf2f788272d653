"""Data sets that a Linux distribution installs, found by their name."""

from __future__ import annotations

import os
from pathlib import Path

from ..searchspace.errors import InvalidInputError
from .dataset import DataSet
from .idx import find_idx, read_idx

__all__ = ["FOLDER", "VARIABLE", "load_fashion_mnist", "own_folder"]

#: Where Debian's and Ubuntu's packages `dataset-*` put their files.
FOLDER = Path("/usr/share/datasets")

#: Environment variable with a folder of data sets, looked into first.
VARIABLE = "SCHOLARCH_DATA"


def own_folder() -> Path | None:
    """The folder of data sets that the environment names, looked into first."""
    own = os.environ.get(VARIABLE)
    return Path(own).expanduser() if own else None


def load_fashion_mnist(*, seed: int, val_fraction: float) -> DataSet:
    """Fashion-MNIST (Xiao et al., 2017): 60,000 and 10,000 grey images of 28×28, ten classes.

    Looked for in ``$SCHOLARCH_DATA/fashion-mnist``, then where the package
    dataset-fashion-mnist puts it.

    Args:
        seed: of the split into training and validation part.
        val_fraction: of the training part.

    Raises:
        InvalidInputError: if it is not there or damaged.
    """
    name = "fashion-mnist"
    own = own_folder()
    places = [*([own] if own else []), FOLDER]
    for place in places:
        files = find_idx(place / name)
        if files is not None:
            return read_idx(files, seed=seed, val_fraction=val_fraction)
    looked = " and ".join(str(place / name) for place in places)
    raise InvalidInputError(
        f"data {name!r} is not in {looked}; on Debian and Ubuntu run `apt-get install"
        f" dataset-{name}`, or give the folder of its four IDX files: --data DIR"
    )
