"""Latency: what an architecture costs on one device, and the bench that measures it."""

from .architectures import ArchitectureTable
from .load import device_of, load_table

__all__ = ["ArchitectureTable", "device_of", "load_table"]
