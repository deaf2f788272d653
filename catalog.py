"""What ``scholarch list`` tells of everything registered."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["CATALOGS"]


def _spaces(pattern: str) -> list[dict[str, str]]:
    from .searchspace.factory import create_space, list_spaces
    from .searchspace.space import SPACES

    rows = []
    for name in list_spaces(pattern):
        size = create_space(name).size
        about = (SPACES[name].__doc__ or "").strip().split("\n")[0]
        rows.append({"name": name, "size": str(size), "about": f"{size:,} architectures. {about}"})
    return rows


def _proxies(pattern: str) -> list[dict[str, str]]:
    from .proxies.ensemble import ENSEMBLES
    from .proxies.registry import get_proxy, list_proxies

    rows = []
    for name in list_proxies(pattern):
        proxy = get_proxy(name)
        needs = ", ".join(sorted(proxy.needs)) or "nothing"
        rows.append(
            {
                "name": name,
                "needs": needs,
                "source": proxy.source,
                "about": f"{proxy.summary}. Needs {needs}. {proxy.source}",
            }
        )
    for name in ENSEMBLES.names(pattern):
        ensemble = ENSEMBLES[name]
        formula = " + ".join(
            part if weight == 1.0 else f"{weight:g} {part}"
            for part, weight in ensemble.weight_of.items()
        )
        rows.append(
            {
                "name": name,
                "needs": ", ".join(ensemble.parts),
                "source": "",
                "about": f"{ensemble.summary}, version {ensemble.version}: {formula}",
            }
        )
    return rows


def _searchers(pattern: str) -> list[dict[str, str]]:
    from .search.searchers.base import describe_searcher, list_searchers

    return [{"name": name, "about": describe_searcher(name)} for name in list_searchers(pattern)]


def _schedules(pattern: str) -> list[dict[str, str]]:
    from .supernet.factory import create_schedule, describe_schedule, list_schedules

    rows = []
    for name in list_schedules(pattern):
        source = create_schedule(name).reference
        about = describe_schedule(name)
        rows.append(
            {"name": name, "source": source, "about": f"{about}. {source}" if source else about}
        )
    return rows


def _distillers(pattern: str) -> list[dict[str, str]]:
    from .supernet.distil.factory import describe_distiller, list_distillers

    return [{"name": name, "about": describe_distiller(name)} for name in list_distillers(pattern)]


def _teachers(pattern: str) -> list[dict[str, str]]:
    from .teacher import describe_teacher, list_teachers
    from .teachers.registry import TEACHERS

    # timm has over a thousand: by pattern only, as in `list teachers 'convnext*'`.
    names = TEACHERS.names() if pattern == "*" else list_teachers(pattern)
    rows = [{"name": name, "about": describe_teacher(name)} for name in names]
    if pattern == "*":
        about = "any model of timm by its name, a checkpoint's path, or in Python any nn.Module"
        rows.append({"name": "...", "about": about})
    return rows


def _benchmarks(pattern: str) -> list[dict[str, str]]:
    from .benchmarks.registry import get_benchmark, list_benchmarks

    return [{"name": name, "about": get_benchmark(name).about} for name in list_benchmarks(pattern)]


CATALOGS: dict[str, Callable[[str], list[dict[str, str]]]] = {
    "spaces": _spaces,
    "proxies": _proxies,
    "searchers": _searchers,
    "schedules": _schedules,
    "distillers": _distillers,
    "teachers": _teachers,
    "benchmarks": _benchmarks,
}
