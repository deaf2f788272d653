"""What every test shares: the data folder, one thread, untouched global generators."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib
import os
import random
import shlex
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

# Before matplotlib and the BLAS under numpy are loaded.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
import rich.style  # noqa: F401 (draws from `random` when first imported)
import torch

# A run's bytes depend on the thread count: gradients of one and two threads differ by 2e-8.
torch.set_num_threads(1)

# A shell starts what it runs in the background with Ctrl-C ignored, which children inherit, so that
# tests that interrupt one would wait for its end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure. On CI hypothesis by itself draws the same examples every time.
hypothesis.settings.register_profile("busy", parent=hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("busy")

ROOT = Path(__file__).resolve().parent.parent

DATA_REQUIRED = os.environ.get("SCHOLARCH_REQUIRE_DATA") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, or one process would wait for the other's last of a minute.

    Files stay whole, since what a file's tests share would be made again after another's.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """The collector need not look again and again at what imports and collection have left."""
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, which is also the package's folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data that ``SCHOLARCH_DATA`` names; skips where there is none.

    With ``SCHOLARCH_REQUIRE_DATA=1`` any skip of a test that asks for it is a failure.
    """
    folder = os.environ.get("SCHOLARCH_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"needs the real data; SCHOLARCH_DATA is {folder or 'unset'!r}")
    return Path(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    asked = "data_dir" in getattr(item, "fixturenames", ())
    if DATA_REQUIRED and asked and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped although SCHOLARCH_REQUIRE_DATA=1: {reason}"
    return report


def _generator_states() -> dict[str, object]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (looks, draws nothing)
    return {
        "random": random.getstate(),
        "numpy.random": (name, keys.tobytes(), rest),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def _global_generators_untouched() -> Iterator[None]:
    """No test, so no code of ours, draws from or seeds a global generator."""
    before = _generator_states()
    yield
    after = _generator_states()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"the global generator of {', '.join(moved)} was drawn from or seeded"


#: In place of 64, for tests of what surrounds a score. Ranks against 16 are as continuous and as
#: monotone; what their number is for has tests of its own, in search/test_run.py.
FEW_REFERENCES = 16


@functools.cache
def _ranking_modules() -> list[ModuleType]:
    """Those with a ``REFERENCE_SIZE``, all loaded before it is another: most take it from one."""
    files = [ROOT / "scoring.py", *ROOT.glob("search/*.py"), *ROOT.glob("benchmarks/*.py")]
    paths = [file for file in files if "REFERENCE_SIZE" in file.read_text(encoding="utf-8")]
    dotted = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [importlib.import_module(f"scholarch.{name}") for name in dotted]


@pytest.fixture
def few_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks against 16 architectures, whose scoring is most of a small search's time."""
    for module in _ranking_modules():
        monkeypatch.setattr(module, "REFERENCE_SIZE", FEW_REFERENCES)


@pytest.fixture
def plain_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their pictures, which take more than half of a small run's time.

    The words stay. What pictures show has tests of its own, in test_report.py.
    """
    for module in ("report", "two_searches"):
        monkeypatch.setattr(f"scholarch.search.{module}.front_figure", lambda *_: None)
        monkeypatch.setattr(f"scholarch.search.{module}.figure_svg", lambda *_: "<svg></svg>")
    monkeypatch.setattr("scholarch.search.report.growth_figure", lambda *_: None)


@pytest.fixture
def plain_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training runs with an empty picture, which takes longer to draw than they to train."""

    def save_curves(_run: object, _curves: object, path: Path) -> None:
        path.write_text("<svg></svg>", encoding="utf-8")

    monkeypatch.setattr("scholarch.search.conducted.save_curves", save_curves)


@dataclasses.dataclass
class Forked:
    """A forked child: a process of its own without a second's import of torch.

    Attributes:
        pid: of the child.
        folder: where its output goes.
    """

    pid: int
    folder: Path

    def kill(self, signal: int) -> None:
        """Send a signal; a child that is gone already is fine."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal)

    def wait(self) -> tuple[int, str, str]:
        """Exit code (minus the signal that ended it), stdout, stderr."""
        _, status = os.waitpid(self.pid, 0)
        out, err = ((self.folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return os.waitstatus_to_exitcode(status), out, err


def _in_child(action: Callable[[], int], folder: Path) -> NoReturn:
    code = 99
    try:
        for number, name in ((1, "out"), (2, "err")):
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(descriptor, number)
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        code = action()
        sys.stdout.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 (the parent is told)
        traceback.print_exc()
    finally:
        os._exit(code)


@contextlib.contextmanager
def _forking(
    folders: pytest.TempPathFactory,
) -> Iterator[Callable[[Callable[[], int]], Forked]]:
    children = []

    def start(action: Callable[[], int]) -> Forked:
        folder = folders.mktemp("forked")
        with warnings.catch_warnings():
            # Python 3.12 and later warn where another thread exists; none of ours does, and
            # the one by which pytest-xdist listens is of no use to the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _in_child(action, folder)
        children.append(Forked(pid, folder))
        return children[-1]

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


@pytest.fixture
def fork(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Callable[[], int]], Forked]]:
    """Starts ``action`` in a forked child, its output in files; kills what a test leaves."""
    with _forking(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def module_fork(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Callable[[], int]], Forked]]:
    """As ``fork``, for the fixtures of a module."""
    with _forking(tmp_path_factory) as start:
        yield start


class Documented:
    """Runs what a page shows as written, in a folder.

    A process of its own takes more than two seconds to import torch, so that only the first of
    each kind, whichever page it is on, has one; the others are forked from here. What no page
    shows is less in them: architectures to rank against, passes over networks that are timed.
    """

    #: Whether a block, and a line of ours, had a process of its own.
    real_python = real_shell = False

    def __init__(self, fork: Callable[[Callable[[], int]], Forked], folder: Path) -> None:
        self._fork, self.folder = fork, folder

    def python(self, block: str) -> None:
        """A block of Python, whose warnings are errors."""

        def action() -> int:
            os.chdir(self.folder)
            exec(compile(block, "<page>", "exec"), {"__name__": "__main__"})
            return 0

        if Documented.real_python:
            self._forked(action, block)
        else:
            self._real([sys.executable, "-W", "error", "-c", block])
        Documented.real_python = True

    def shell(self, line: str) -> None:
        """A line for the shell; forked only where it is a plain command of ours."""
        from scholarch.cli import main

        def action() -> int:
            os.chdir(self.folder)
            warnings.simplefilter("default")  # as in a process of its own
            return main(shlex.split(line, comments=True)[1:])

        ours = line.startswith("scholarch ") and not set(line) & set("|>&;$*`")
        # The suites run pytest, which is not to run inside itself.
        if ours and Documented.real_shell and not line.startswith("scholarch conformance"):
            self._forked(action, line)
        else:
            self._real(["bash", "-euo", "pipefail", "-c", line])
            Documented.real_shell = Documented.real_shell or ours

    def _forked(self, action: Callable[[], int], what: str) -> None:
        from scholarch.searchspace.latency.build import build_table
        from scholarch.searchspace.latency.check import check_table

        modules = _ranking_modules()  # loaded once, not by every child

        def in_short() -> int:
            for module in modules:
                vars(module)["REFERENCE_SIZE"] = FEW_REFERENCES
            for timing in (build_table, check_table):
                timing.__kwdefaults__["passes"] = 2
            return action()

        code, out, err = self._fork(in_short).wait()
        assert code == 0, f"{what}\n{out[-2000:]}{err[-2000:]}"

    def _real(self, command: list[str]) -> None:
        # This interpreter's scripts first, so that `scholarch` is the one under test.
        paths = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        environment = os.environ | {"PATH": paths, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.fixture
def documented(fork: Callable[[Callable[[], int]], Forked], tmp_path: Path) -> Documented:
    """Runs blocks and lines of a page in ``tmp_path``."""
    return Documented(fork, tmp_path)
