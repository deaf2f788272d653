"""Spaces of Transformers; importing this package registers them."""

from . import autoformer, bert, pit, vit

__all__ = ["autoformer", "bert", "pit", "vit"]
