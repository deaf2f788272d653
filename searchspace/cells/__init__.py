"""Spaces of cells, small labelled graphs stacked into a network; importing registers them."""

from . import nasbench101, nasbench201, nasbench_macro

__all__ = ["nasbench101", "nasbench201", "nasbench_macro"]
