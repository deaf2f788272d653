"""Where what is made once from data is kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE", "cache_folder"]

#: Environment variable that names another folder.
CACHE = "SCHOLARCH_CACHE"


def cache_folder() -> Path:
    """``$SCHOLARCH_CACHE``, else ``$XDG_CACHE_HOME/scholarch``, else ``~/.cache/scholarch``."""
    if named := os.environ.get(CACHE):
        return Path(named).expanduser()
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path.home() / ".cache") / "scholarch"
