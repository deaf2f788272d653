"""The conformance suites, shipped: whatever is registered passes them or is not done.

``scholarch conformance --plugin FILE`` runs them, by pytest, on what a file registers; the
package's own tests run them on everything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache

__all__ = ["PLUGINS", "registered"]

#: Environment variable with the plug-in files under test, separated as paths are.
PLUGINS = "SCHOLARCH_CONFORMANCE"


def registered(kind: str) -> list[str]:
    """Names to test: what the plug-ins under test register, else everything.

    Args:
        kind: ``"space"``, ``"proxy"``, ``"searcher"``, ``"schedule"`` or ``"distiller"``.
    """
    from ..searchspace.plugins import load_plugin

    before = _before()[kind]
    files = [file for file in os.environ.get(PLUGINS, "").split(os.pathsep) if file]
    for file in files:
        load_plugin(file)
    names = _kinds()[kind]()
    return [name for name in names if name not in before] if files else names


def _kinds() -> Mapping[str, Callable[[], list[str]]]:
    # Loaded here, not above: the command that runs the suites in another process needs no torch.
    from ..proxies.registry import list_proxies
    from ..search.searchers.base import list_searchers
    from ..searchspace.factory import list_spaces
    from ..supernet.distil.factory import list_distillers
    from ..supernet.factory import list_schedules

    return {
        "space": list_spaces,
        "proxy": list_proxies,
        "searcher": list_searchers,
        "schedule": list_schedules,
        "distiller": list_distillers,
    }


@cache
def _before() -> dict[str, frozenset[str]]:
    """Of every kind, what there was before the first plug-in under test was loaded."""
    return {kind: frozenset(names()) for kind, names in _kinds().items()}
