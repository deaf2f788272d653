"""The tutorials: their files are the examples verbatim, work as plug-ins and pass the suites."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import scholarch
from scholarch.proxies import registry as proxies
from scholarch.searchspace import plugins
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.plugins import load_plugin
from scholarch.searchspace.space import SPACES

EXAMPLES = {"tutorial-space": "tiny_vgg_space.py", "tutorial-proxy": "my_proxy.py"}
PAGES = ("index", "tutorial-space", "tutorial-proxy", "formats")


@pytest.fixture
def examples(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The examples' folder; what a test loads from it is forgotten again."""
    scholarch.list_spaces(), scholarch.list_proxies()  # the package's own stay
    for table in (SPACES, proxies._PROXIES):
        monkeypatch.setattr(table, "_items", dict(table._items))
    monkeypatch.setattr(plugins, "_LOADED", dict(plugins._LOADED))
    before = set(sys.modules)
    yield root / "docs" / "examples"
    for name in set(sys.modules) - before:
        if name.startswith("scholarch_plugin_"):
            del sys.modules[name]


def blocks(root: Path, page: str, language: str) -> list[str]:
    text = (root / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


# ---------------------------------------------------------------------- the texts


@pytest.mark.parametrize(("page", "example"), EXAMPLES.items())
def test_the_page_holds_the_file_verbatim(root: Path, page: str, example: str) -> None:
    file = (root / "docs" / "examples" / example).read_text(encoding="utf-8")
    assert file in blocks(root, page, "python")


def test_the_examples_are_as_short_as_the_titles_say(root: Path) -> None:
    lines = {
        name: len((root / "docs" / "examples" / name).read_text(encoding="utf-8").splitlines())
        for name in EXAMPLES.values()
    }
    assert lines["tiny_vgg_space.py"] < 100
    assert lines["my_proxy.py"] <= 15


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_of_the_docs_run(
    root: Path, tmp_path: Path, page: str, documented: Any
) -> None:
    for example in EXAMPLES.values():
        shutil.copy(root / "docs" / "examples" / example, tmp_path)
    for block in blocks(root, page, "python"):
        documented.python(block)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_shell_lines_of_the_docs_run(
    root: Path, tmp_path: Path, page: str, documented: Any
) -> None:
    for example in EXAMPLES.values():
        shutil.copy(root / "docs" / "examples" / example, tmp_path)
    for line in "".join(blocks(root, page, "sh")).splitlines():
        documented.shell(line)


@pytest.mark.slow
def test_the_shipped_suites_refuse_a_bad_plugin(tmp_path: Path) -> None:
    """The tutorials' own lines run them on good ones."""
    (tmp_path / "bad.py").write_text(
        "import itertools, scholarch\nTICKS = itertools.count()\n"
        "@scholarch.register_proxy('test-drift', source='a test')\n"
        "def drift(probe):\n    'Another value every time.'\n    return next(TICKS)\n"
    )
    command = [sys.executable, "-m", "scholarch", "conformance", "--plugin", "bad.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout
    assert "test_depends_on_nothing_but_candidate_seed_and_batch[test-drift]" in done.stdout
    assert done.stderr.strip() == "error: the conformance suites failed; see above"


# ---------------------------------------------------------------------- the plug-ins


@pytest.mark.usefixtures("few_references")
def test_the_space_is_searched(examples: Path, tmp_path: Path) -> None:
    load_plugin(examples / "tiny_vgg_space.py")
    load_plugin(examples / "tiny_vgg_space.py")  # a second time changes nothing
    assert scholarch.list_spaces("tiny*") == ["tiny-vgg"]
    space = scholarch.create_space("tiny-vgg", num_classes=10)
    assert space.size == 4**3 * 8
    result = scholarch.find_student(
        space="tiny-vgg",
        data="digits",
        budget={"macs": 3e6},
        evaluations=6,
        batch_size=8,
        out=tmp_path / "run",
    )
    assert result.best.costs["macs"] <= 3e6
    assert all(student.costs["macs"] <= 3e6 for student in result.pareto)
    loaded = scholarch.SearchResult.load(tmp_path / "run")
    assert str(loaded.best.arch) == str(result.best.arch)
    for text, message in (("2-1-3", "write it like 2-1-3-16"), ("9-1-3-16", "depth1 = 9 is not")):
        with pytest.raises(InvalidInputError, match=message):
            space.parse(text)


def test_the_proxy_scores_and_is_searched_with(examples: Path) -> None:
    load_plugin(examples / "my_proxy.py")
    space = scholarch.create_space("resnet-cifar-s0", num_classes=10)
    archs = [space.parse(text) for text in ("111", "335", "777")]
    batch = scholarch.load_batch("digits", size=16)
    table = scholarch.score(space, archs, batch=batch, proxies=["feature-rank"])
    assert not table.failures
    assert ((table["feature-rank"] > 1) & (table["feature-rank"] <= 15)).all()
    result = scholarch.find_student(
        space=space, data="digits", proxies=["feature-rank"], evaluations=4, batch_size=8
    )
    assert result.best.score == max(student.score for student in result.pareto)


def test_a_taken_name_is_refused(examples: Path, tmp_path: Path) -> None:
    load_plugin(examples / "my_proxy.py")
    copy = shutil.copy(examples / "my_proxy.py", tmp_path / "again.py")
    with pytest.raises(InvalidInputError, match="again.py: .*'feature-rank' is already registered"):
        load_plugin(copy)


# ---------------------------------------------------------------------- the site


def load_site(root: Path) -> Any:
    """docs/make_site.py as a module."""
    pytest.importorskip("pdoc", reason="needs pdoc, of the extra dev")
    spec = importlib.util.spec_from_file_location("make_site", root / "docs" / "make_site.py")
    assert spec is not None
    assert spec.loader is not None
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    return site


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(root: Path, tmp_path: Path, fork: Any) -> None:
    """Every page, and of the reference the upper modules; `make lint` builds all of it."""
    site = load_site(root)
    make_reference = site.make_reference

    def upper(out: Path, names: list[str]) -> None:
        shown = {"scholarch.datasets.cifar", "scholarch.proxies.probe"}
        make_reference(out, [name for name in names if name.count(".") < 2 or name in shown])

    def build() -> int:
        site.make_reference = upper
        site.main(tmp_path / "site")
        return 0

    code, out, err = fork(build).wait()
    assert code == 0, out + err
    for page in (*PAGES, "api/scholarch", "api/scholarch/data", "api/scholarch/datasets/cifar"):
        assert (tmp_path / "site" / f"{page}.html").is_file()
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="tutorial-space.html"' in front
    assert "<table" in front
    assert (tmp_path / "site" / "examples" / "tiny_vgg_space.py").is_file()
    reference = (tmp_path / "site" / "api" / "scholarch" / "data.html").read_text(encoding="utf-8")
    assert "Draw a batch from the training part" in reference
    prose = re.sub(r'<div class="pdoc-code.*?</div>', "", reference, flags=re.S)
    assert ":class:`" not in prose, "roles are turned into links"


def test_a_reference_to_nothing_is_a_warning(root: Path) -> None:
    site = load_site(root)
    assert site.exists("scholarch.datasets.cifar.read_cifar")
    assert site.exists("scholarch.searchspace.space.SearchSpace.cost")
    assert site.exists("scholarch.datasets.dataset.DataSet.name")
    assert not site.exists("scholarch.datasets.cifar.read_cifra")
    assert not site.exists("scholarch.nowhere")
