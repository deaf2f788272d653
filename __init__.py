"""scholarch: the best student architecture for a teacher under a budget, without training.

Names are loaded when first used, so that ``import scholarch`` loads neither torch nor numpy.

Example:
    >>> import scholarch
    >>> space = scholarch.create_space("resnet-cifar-s0", num_classes=10)
    >>> space.size
    64
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import find_student, list_searchers
    from .benchmarks.registry import list_benchmarks, register_benchmark
    from .benchmarks.run import benchmark
    from .data import load_batch, load_data, register_data
    from .distilling import distil_student
    from .exporting import export_student
    from .inheriting import inherit_supernet
    from .proxies.batch import Batch
    from .proxies.registry import register_proxy
    from .proxies.teacher import Teacher
    from .refining import refine_student
    from .scoring import list_proxies, score
    from .search.result import SearchResult
    from .search.searchers.base import register_searcher
    from .search.student import Student
    from .searchspace.architecture import Architecture
    from .searchspace.errors import InvalidInputError, ScholarchError
    from .searchspace.factory import create_space, list_spaces
    from .searchspace.plugins import load_plugin
    from .searchspace.space import SearchSpace, register_space
    from .supernet.distil.distiller import Distiller, register_distiller
    from .supernet.distil.factory import list_distillers
    from .supernet.distil.settings import DistilSettings
    from .supernet.factory import create_schedule, list_schedules
    from .supernet.ofa_checkpoint import import_ofa
    from .supernet.pretrained import load_supernet
    from .supernet.schedule import register_schedule
    from .supernet.settings import TrainSettings
    from .supernet.world import World
    from .teacher import list_teachers, load_teacher, register_teacher
    from .training import train_supernet

__version__ = "0.1.0"

_HOMES = {
    "api": ("find_student", "list_searchers"),
    "benchmarks.registry": ("list_benchmarks", "register_benchmark"),
    "benchmarks.run": ("benchmark",),
    "data": ("load_batch", "load_data", "register_data"),
    "proxies.batch": ("Batch",),
    "proxies.registry": ("register_proxy",),
    "proxies.teacher": ("Teacher",),
    "search.result": ("SearchResult",),
    "search.searchers.base": ("register_searcher",),
    "search.student": ("Student",),
    "searchspace.architecture": ("Architecture",),
    "searchspace.errors": ("InvalidInputError", "ScholarchError"),
    "searchspace.plugins": ("load_plugin",),
    "searchspace.factory": ("create_space", "list_spaces"),
    "searchspace.space": ("SearchSpace", "register_space"),
    "supernet.factory": ("create_schedule", "list_schedules"),
    "distilling": ("distil_student",),
    "exporting": ("export_student",),
    "inheriting": ("inherit_supernet",),
    "refining": ("refine_student",),
    "scoring": ("list_proxies", "score"),
    "supernet.distil.distiller": ("Distiller", "register_distiller"),
    "supernet.distil.factory": ("list_distillers",),
    "supernet.distil.settings": ("DistilSettings",),
    "supernet.ofa_checkpoint": ("import_ofa",),
    "supernet.pretrained": ("load_supernet",),
    "supernet.schedule": ("register_schedule",),
    "supernet.settings": ("TrainSettings",),
    "supernet.world": ("World",),
    "teacher": ("list_teachers", "load_teacher", "register_teacher"),
    "training": ("train_supernet",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

# Spelt out, for type checkers and editors; a test holds it against the table.
__all__ = [
    "Architecture",
    "Batch",
    "DistilSettings",
    "Distiller",
    "InvalidInputError",
    "ScholarchError",
    "SearchResult",
    "SearchSpace",
    "Student",
    "Teacher",
    "TrainSettings",
    "World",
    "__version__",
    "benchmark",
    "create_schedule",
    "create_space",
    "distil_student",
    "export_student",
    "find_student",
    "import_ofa",
    "inherit_supernet",
    "list_benchmarks",
    "list_distillers",
    "list_proxies",
    "list_schedules",
    "list_searchers",
    "list_spaces",
    "list_teachers",
    "load_batch",
    "load_data",
    "load_plugin",
    "load_supernet",
    "load_teacher",
    "refine_student",
    "register_benchmark",
    "register_data",
    "register_distiller",
    "register_proxy",
    "register_schedule",
    "register_searcher",
    "register_space",
    "register_teacher",
    "score",
    "train_supernet",
]


# `object`, not `Any`: a misspelt name stays an error for type checkers.
def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value  # asked for once
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
