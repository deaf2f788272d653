"""What a search found: the front, the pick, its report and its folder."""

from __future__ import annotations

from pathlib import Path

from .outcome import SearchOutcome

__all__ = ["SearchResult"]


class SearchResult(SearchOutcome):
    """The outcome of a search, with its report and its folder.

    ``best`` and ``pareto`` are students; see
    :class:`~scholarch.search.outcome.SearchOutcome` for the rest.
    """

    def report(self) -> str:
        """The report as one self-contained HTML page."""
        from .summary import report_html  # matplotlib, once it is needed

        return report_html(self)

    def save(self, folder: str | Path) -> None:
        """Write the run's folder elsewhere: store, settings, front, report, student.

        Raises:
            StoreError: if the folder cannot be written.
            InvalidInputError: if it is not empty.
        """
        from .folder import save_outcome

        save_outcome(self, folder)

    @staticmethod
    def load(folder: str | Path) -> SearchResult:
        """Read a run's folder; nothing is scored again.

        Raises:
            ScholarchError: if it holds no run, or a damaged one.
        """
        from .folder import load_outcome

        return load_outcome(folder, SearchResult)
