"""Schedules of supernet training, one idea a file; importing registers them."""

from . import attentive, delayed, plain, progressive, robust, sandwich

__all__ = ["attentive", "delayed", "plain", "progressive", "robust", "sandwich"]
