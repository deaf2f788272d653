"""Readers of data sets, one format a file; ``scholarch.load_data`` is the way in."""
