"""Whether the tokens of a text are those that a network knows."""

from __future__ import annotations

from torch import Tensor, nn

from ..searchspace.errors import InvalidInputError

__all__ = ["check_ids", "unknown_tokens", "vocabulary_of"]


def vocabulary_of(module: nn.Module) -> int:
    """Tokens that a text network knows, by its first table of words; 0 where none is found."""
    found = next((m for m in module.modules() if isinstance(m, nn.Embedding)), None)
    return 0 if found is None else found.num_embeddings


def check_ids(ids: Tensor, vocabulary: int, data_name: str, who: str) -> None:
    """Refuse token ids that a network has no word for.

    Args:
        ids: int64, any shape.
        vocabulary: tokens that the network knows; 0: not known, and nothing is refused.
        data_name: where the ids are from.
        who: has the vocabulary, e.g. ``"teacher 'x'"``.

    Raises:
        InvalidInputError: if an id is beyond it.
    """
    highest = int(ids.max()) if ids.numel() else 0
    if vocabulary and highest >= vocabulary:
        raise unknown_tokens(data_name, highest, vocabulary, who)


def unknown_tokens(data_name: str, highest: int, vocabulary: int, who: str) -> InvalidInputError:
    """What is said of text by another tokenizer than a network's."""
    return InvalidInputError(
        f"data {data_name!r} has tokens up to {highest}, {who} knows {vocabulary}: their"
        " tokenizers are not the same; name the teacher's with --tokenizer"
    )
