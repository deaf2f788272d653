"""What cell spaces ask of a labelled graph; cells are ``networkx`` digraphs, acyclic."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import networkx as nx

__all__ = ["Dag", "edge_dag", "on_paths"]

Dag = Any
"""A ``networkx.DiGraph``; the library is untyped."""


def edge_dag(nodes: int, edges: Iterable[tuple[int, int, str]]) -> Dag:
    """A graph of numbered nodes whose edges carry an operation.

    Args:
        nodes: how many; every edge leads to a higher number, so 0, 1, … is a topological order.
        edges: source, target, operation; read back as ``graph.edges[i, j]["op"]``.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(nodes))
    graph.add_edges_from((i, j, {"op": op}) for i, j, op in edges)
    return graph


def on_paths(graph: Dag, source: Hashable, target: Hashable) -> set[Any]:
    """Nodes on any path from ``source`` to ``target``; empty where there is no path."""
    forward = nx.descendants(graph, source) | {source}
    return forward & (nx.ancestors(graph, target) | {target}) if target in forward else set()
