"""The user's own files and packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scholarch.proxies import registry as proxies
from scholarch.proxies.registry import list_proxies
from scholarch.searchspace import plugins
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.plugins import load_entry_points, load_plugin, loaded_plugins

GOOD = """
import scholarch

@scholarch.register_proxy("test-plugged", source="a test")
def plugged(probe):
    "Costs."
    return probe.costs["params"]
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    list_proxies()
    monkeypatch.setattr(proxies._PROXIES, "_items", dict(proxies._PROXIES._items))
    monkeypatch.setattr(plugins, "_LOADED", dict(plugins._LOADED))
    yield
    load_entry_points.cache_clear()


def test_a_file_registers_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    load_plugin(file)
    load_plugin(str(file))
    assert "test-plugged" in list_proxies()
    assert loaded_plugins()[-1] == str(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("test-plugged", "macs"), "proxy 'macs' is already registered"),
        ("import nothing_of_that_name", "fails to load: ModuleNotFoundError"),
        ("def broken(:", "fails to load: SyntaxError"),
        ("1 / 0", "fails to load: ZeroDivisionError: division by zero"),
    ],
)
def test_a_bad_file_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load_plugin(file)
    assert "\n" not in str(caught.value)
    assert str(file) not in loaded_plugins()


def test_a_missing_file_and_no_python(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no plug-in at"):
        load_plugin(tmp_path / "none.py")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InvalidInputError, match="has to end in .py"):
        load_plugin(tmp_path / "notes.txt")


class Point:
    """An entry point."""

    name = "theirs"
    dist = None

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def load(self) -> None:
        if self.file is None:
            raise ImportError("it is gone")
        load_plugin(self.file)


def test_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "theirs.py"
    file.write_text(GOOD)
    points = [Point(file)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    load_entry_points.cache_clear()
    assert "test-plugged" in list_proxies()
    points[0] = Point(None)
    load_entry_points.cache_clear()
    with pytest.raises(InvalidInputError, match="'theirs' of a package fails to load: it is gone"):
        list_proxies()
