"""Running the shipped suites in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_suites"]

FOLDER = Path(__file__).parent


def run_suites(plugins: Sequence[str], *, quiet: bool = False) -> int:
    """Run every suite by pytest, on what the plug-ins register; returns pytest's exit code.

    Args:
        plugins: absolute paths; empty: everything registered is tested.
        quiet: print failures alone.
    """
    from . import PLUGINS

    command = [sys.executable, "-m", "pytest", "-c", str(FOLDER / "suite.ini"), str(FOLDER)]
    environment = os.environ | {PLUGINS: os.pathsep.join(plugins)}
    return subprocess.run(  # noqa: S603 (pytest, on files the user named)
        [*command, *(["-q", "--no-header", "--no-summary"] if quiet else [])],
        env=environment,
        check=False,
    ).returncode
