"""Spaces of Transformers; importing this package registers them."""

from . import autoformer, pit

__all__ = ["autoformer", "pit"]
