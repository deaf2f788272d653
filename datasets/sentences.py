"""English sentences that a Linux distribution installs: the examples of use in WordNet 3.0."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..searchspace.errors import InvalidInputError
from .dataset import DataSet
from .debian import own_folder
from .text import Sentence, make_text

__all__ = ["FOLDER", "LENGTH", "load_sentences"]

#: Where Debian's and Ubuntu's package `wordnet-base` puts its files.
FOLDER = Path("/usr/share/wordnet")

_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_NAME = "sentences"

#: Tokens of a sentence at most: of 29,639 all but 44 have fewer.
LENGTH = 32

#: Shorter ones are no sentences but phrases.
_WORDS = 5

_QUOTED = re.compile(r'"([^"]+)"')


def load_sentences(
    *,
    seed: int,
    val_fraction: float,
    tokenizer: str | os.PathLike[str] | None = None,
    length: int = LENGTH,
) -> DataSet:
    """WordNet's examples of at least five words (Fellbaum, 1998): 29,639, unlabelled.

    Looked for in ``$SCHOLARCH_DATA/wordnet``, then where the package wordnet-base puts them.

    Args:
        seed: of the split into training and validation part; the test part, a tenth, is fixed.
        val_fraction: of the training part.
        tokenizer: see :func:`~scholarch.datasets.tokens.open_tokenizer`.
        length: tokens of a sentence at most.

    Raises:
        InvalidInputError: if they are not there, or the tokenizer is not.
    """
    own = own_folder()
    places = [*([own / "wordnet"] if own else []), FOLDER]
    for place in places:
        if all((place / file).is_file() for file in _FILES):
            # In the order of their letters, whatever order the files have.
            found = sorted({line for file in _FILES for line in _examples(place / file)})
            return make_text(
                _NAME,
                {"train": [Sentence(line) for line in found]},
                seed=seed,
                val_fraction=val_fraction,
                tokenizer=tokenizer,
                length=length,
            )
    raise InvalidInputError(
        f"data {_NAME!r} are WordNet's examples, which are not in"
        f" {' and '.join(map(str, places))}; on Debian and Ubuntu run `apt-get install"
        " wordnet-base`"
    )


def _examples(file: Path) -> Iterator[str]:
    """What stands in quotes behind the definitions."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        _, bar, gloss = line.partition("| ")
        if bar and not line.startswith("  "):  # the licence is indented
            for quoted in _QUOTED.findall(gloss):
                words = quoted.split()
                if len(words) >= _WORDS:
                    yield " ".join(words)
