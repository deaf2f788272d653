"""Spaces of cells: small labelled graphs stacked into a network."""
