"""Where and by what a run was made, for whoever repeats it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["host", "versions"]


def host() -> dict[str, str]:
    """This machine, in words."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": str(os.cpu_count()),
        "name": platform.node(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of scholarch and of what else is named."""
    found = {"python": platform.python_version()}
    for name in ("scholarch", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
