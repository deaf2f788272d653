"""The user's own spaces, proxies, searchers and teachers, from files and entry points.

A plug-in is a Python file whose decorators register things when it is run
(``@scholarch.register_space`` and its sisters). A package does the same by an entry point
in the group ``scholarch.plugins`` that names a module.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from .errors import InvalidInputError, ScholarchError

__all__ = ["GROUP", "load_entry_points", "load_plugin", "loaded_plugins"]

GROUP = "scholarch.plugins"
_LOADED: dict[Path, str] = {}


def load_plugin(path: str | Path) -> None:
    """Run a plug-in file; a file that was run before is left alone.

    Raises:
        InvalidInputError: if the file is missing, no Python, or fails, e.g. because a name
            it registers is taken.
    """
    file = Path(path).expanduser().resolve()
    if file in _LOADED:
        return
    if not file.is_file():
        raise InvalidInputError(f"no plug-in at {path}; give a Python file")
    name = f"scholarch_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InvalidInputError(f"plug-in {path} is no Python file; its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ScholarchError as error:
        del sys.modules[name]
        raise InvalidInputError(f"plug-in {path}: {error}") from error
    except Exception as error:
        del sys.modules[name]
        text = str(error).split("\n")[0]
        raise InvalidInputError(
            f"plug-in {path} fails to load: {type(error).__name__}: {text}"
        ) from error
    _LOADED[file] = name


def loaded_plugins() -> tuple[str, ...]:
    """Files loaded so far, in order; other processes load them again."""
    return tuple(str(file) for file in _LOADED)


@cache
def load_entry_points() -> None:
    """Import every module that an installed package names in :data:`GROUP`, once.

    Raises:
        InvalidInputError: if one fails, naming the package that brought it.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            package = point.dist.name if point.dist else "a package"
            raise InvalidInputError(
                f"plug-in {point.name!r} of {package} fails to load: {error}; repair or"
                " uninstall it"
            ) from error
