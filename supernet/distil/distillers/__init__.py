"""One distiller a file, registered where it is imported."""

from . import kd

__all__ = ["kd"]
