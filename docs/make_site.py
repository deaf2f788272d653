"""Make the documentation: API pages from the docstrings, and the Markdown pages beside this file.

python docs/make_site.py [FOLDER]     # default build/docs

Any warning ends it: a module that cannot be imported, an annotation that cannot be read, a
reference in a docstring or a link in a page that leads nowhere.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pdoc
from pdoc.render_helpers import to_html

import scholarch

HERE = Path(__file__).resolve().parent
#: In the order of the navigation; the first is the front page.
PAGES = ("index", "tutorial-space", "tutorial-proxy", "formats")
#: Run as scripts; their text is told where they are documented.
SCRIPTS = ("scholarch.__main__",)
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?(scholarch\.[\w.]+)`")
LINK = re.compile(r"""<a[^>]*\shref=["']([^"']+)["']""")


def modules() -> list[str]:
    """Every module of the package, by the packages' own listing."""
    found = pkgutil.walk_packages(scholarch.__path__, "scholarch.")
    return ["scholarch", *(module.name for module in found if module.name not in SCRIPTS)]


def check_references(names: list[str]) -> None:
    """Warn of every ``:class:`~scholarch.…``` in a docstring that names nothing."""
    for name in names:
        module = importlib.import_module(name)
        text = Path(str(module.__file__)).read_text(encoding="utf-8")
        for target in sorted(set(ROLE.findall(text))):
            if not exists(target):
                warnings.warn(f"{name} refers to {target}, which does not exist", stacklevel=2)


def exists(target: str) -> bool:
    """Whether a dotted name leads to a module or to something in one."""
    words = target.split(".")
    for count in range(len(words), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            # A dataclass's field without a default is an annotation alone.
            if not hasattr(thing, word) and word not in getattr(thing, "__annotations__", {}):
                return False
            thing = getattr(thing, word, None)
        return True
    return False


def make_reference(out: Path, names: list[str]) -> None:
    """Render a page a module; by name, since pdoc goes where ``__all__`` leads, to no module."""
    for name in names:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            # pdoc looks into the module's dict, where a lazy name is only after its first use.
            vars(module).setdefault(public, getattr(module, public))
    documents = {name: pdoc.doc.Module.from_name(name) for name in names}
    for name, document in documents.items():
        file = out / f"{name.replace('.', '/')}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(pdoc.render.html_module(document, documents), encoding="utf-8")
    (out / "search.js").write_text(pdoc.render.search_index(documents), encoding="utf-8")


def make_pages(out: Path) -> None:
    """Render the Markdown pages; links between them keep their names."""
    titles = {}
    texts = {}
    for name in PAGES:
        text = (HERE / f"{name}.md").read_text(encoding="utf-8")
        titles[name] = text.splitlines()[0].lstrip("# ")
        texts[name] = re.sub(r"\]\(([\w-]+)\.md(#[\w-]+)?\)", r"](\1.html\2)", text)
    strangers = {path.stem for path in HERE.glob("*.md")} - set(PAGES)
    if strangers:
        warnings.warn(f"pages outside the navigation: {sorted(strangers)}", stacklevel=2)
    template = pdoc.render.env.get_template("page.html.jinja2")
    for name in PAGES:
        page = template.render(name=name, titles=titles, content=to_html(texts[name]))
        (out / f"{name}.html").write_text(page, encoding="utf-8")


def dead_links(out: Path) -> Iterator[str]:
    """Links of the pages that lead to no file, or to no heading in it."""
    for name in PAGES:
        text = (out / f"{name}.html").read_text(encoding="utf-8")
        for link in LINK.findall(text):
            path, _, anchor = link.partition("#")
            if "://" in path:
                continue
            target = out / (path or f"{name}.html")
            there = target.is_file() and (
                not anchor or f'id="{anchor}"' in target.read_text(encoding="utf-8")
            )
            if not there:
                yield f"{name}.md links to {link}, which does not exist"


def main(out: Path) -> None:
    """Make the site in a folder, replacing what is there."""
    warnings.simplefilter("error")
    # The fields of a NamedTuple reach its constructor without the module they were written in.
    named_tuple = r"Error parsing type annotation ForwardRef\(.*\) for \S+\.__init__\. Import"
    warnings.filterwarnings("ignore", named_tuple)
    names = modules()
    check_references(names)
    shutil.rmtree(out, ignore_errors=True)
    (out / "examples").mkdir(parents=True)
    for example in sorted((HERE / "examples").glob("*.py")):
        shutil.copy(example, out / "examples")
    pdoc.render.configure(
        docformat="google",
        footer_text=f"scholarch {scholarch.__version__}",
        template_directory=HERE / "templates",
    )
    make_reference(out / "api", names)
    make_pages(out)
    for problem in dead_links(out):
        warnings.warn(problem, stacklevel=1)
    print(f"{len(names)} modules and {len(PAGES)} pages in {out}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
    except Warning as warning:
        raise SystemExit(f"docs: {warning}") from None
