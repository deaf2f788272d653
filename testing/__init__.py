"""The conformance suites, shipped: whatever is registered passes them or is not done.

``scholarch conformance --plugin FILE`` runs them, by pytest, on what a file registers; the
package's own tests run them on everything.
"""

from __future__ import annotations

import os

from ..proxies.registry import list_proxies
from ..search.searchers.base import list_searchers
from ..searchspace.factory import list_spaces
from ..searchspace.plugins import load_plugin
from ..supernet.distil.factory import list_distillers
from ..supernet.factory import list_schedules

__all__ = ["PLUGINS", "registered"]

#: Environment variable with the plug-in files under test, separated as paths are.
PLUGINS = "SCHOLARCH_CONFORMANCE"

_KINDS = {
    "space": list_spaces,
    "proxy": list_proxies,
    "searcher": list_searchers,
    "schedule": list_schedules,
    "distiller": list_distillers,
}
_BEFORE = {kind: frozenset(names()) for kind, names in _KINDS.items()}


def registered(kind: str) -> list[str]:
    """Names to test: what the plug-ins under test register, else everything.

    Args:
        kind: ``"space"``, ``"proxy"``, ``"searcher"``, ``"schedule"`` or ``"distiller"``.
    """
    files = [file for file in os.environ.get(PLUGINS, "").split(os.pathsep) if file]
    for file in files:
        load_plugin(file)
    names = _KINDS[kind]()
    return [name for name in names if name not in _BEFORE[kind]] if files else names
