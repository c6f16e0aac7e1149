"""The documents: their examples run, their links lead somewhere, what is generated is fresh."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

import crossent

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def _name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_examples_run(page):
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS)
    assert failed == 0


def test_the_readme_has_examples():
    parsed = doctest.DocTestParser().get_examples((ROOT / "README.md").read_text())
    assert len(parsed) > 10


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def _generator():
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh():
    stale = [path.name for path, text in _generator().pages().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_a_stale_page_is_noticed():
    between = _generator().between
    assert between("<!-- x -->\nold\n<!-- /x -->", "x", "new") == "<!-- x -->\nnew\n<!-- /x -->"
    with pytest.raises(SystemExit, match="found 0 times"):
        between("no markers", "x", "new")


@pytest.mark.parametrize("name", [n for n in crossent.__all__ if n not in ("numpy", "tf_compat")])
def test_every_public_name_says_what_it_is(name):
    thing = getattr(crossent, name)
    doc = thing.__doc__ or ""
    assert doc.strip()
    if not isinstance(thing, type):
        assert ">>>" in doc, "a runnable example"
        for section in ("Raises:", "Example:"):
            assert section in doc or name == "kernel_for", section


def test_every_loss_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    functions = [n for n in crossent.__all__ if n[0].islower() and n != "label_weight"]
    assert [name for name in functions if name not in readme] == []
