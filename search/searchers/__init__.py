"""Searchers: ask for architectures, tell their objectives."""
