"""Spaces of Transformers."""
