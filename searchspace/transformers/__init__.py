"""Spaces of Transformers; importing this package registers them."""

from . import autoformer, bert, hubert, pit, vit, whisper

__all__ = ["autoformer", "bert", "hubert", "pit", "vit", "whisper"]
