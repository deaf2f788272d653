"""Reports that show a distillation, written where they belong."""

from __future__ import annotations

from pathlib import Path

from ..searchspace.files import write_atomic
from .calibration.folder import CALIBRATION, read_calibration
from .calibration.report import calibrated_html
from .distil_report import DISTIL, distil_html
from .folder import REPORT, RUN
from .refine_report import REFINE, read_refine, refined_html
from .result import SearchResult

__all__ = ["write_reports"]


def write_reports(folder: Path, run: Path | None) -> None:
    """Write the page of a distillation, and its run's report, which shows it too.

    Args:
        folder: of the finished distillation.
        run: folder that the student is from; its report is left alone where it is no run's, or
            the distillation lies elsewhere.

    Raises:
        ScholarchError: if a file is damaged or cannot be written.
    """
    write_atomic(folder / REPORT, distil_html(folder))
    if run is None or folder.resolve() != (run / DISTIL).resolve():
        return
    if (run / REFINE).is_file():
        told = read_refine(run)
        page = refined_html(*_two(run), told, run / "supernet")
        write_atomic(run / REPORT, page)
    elif (run / CALIBRATION).is_file():
        write_atomic(run / REPORT, calibrated_html(*_two(run), read_calibration(run)))
    elif (run / RUN).is_file():
        write_atomic(run / REPORT, SearchResult.load(run).report())


def _two(run: Path) -> tuple[SearchResult, SearchResult]:
    """The two searches of a refined or a calibrated run."""
    return SearchResult.load(run / "first"), SearchResult.load(run / "second")
