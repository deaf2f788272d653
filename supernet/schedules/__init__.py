"""Schedules of supernet training, one a file."""
