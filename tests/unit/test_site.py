"""The documentation site: it builds without a complaint, and its pages hold what they hold where the repository is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
COUNTED = ("h1", "h2", "h3", "li", "p", "pre", "td", "strong")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as `make docs` does, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_a_page_reads_the_same_here_and_there(site: Path) -> None:
    """What a page is made of (headings, items, cells, blocks) is the same under CommonMark's rules as on the site."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        plain = MarkdownIt("commonmark").enable("table").render(page.read_text(encoding="utf-8"))
        built = site / page.relative_to(ROOT).with_name("index.html" if page.name == "README.md" else f"{page.stem}.html")
        shown = re.search(r"<article.*</article>", built.read_text(encoding="utf-8"), re.DOTALL)
        assert shown is not None
        assert parts(shown[0]) == parts(plain), page.name


def test_what_pages_link_to_in_the_repository_is_on_the_site(site: Path) -> None:
    """A page outside docs/ is on the site where it lies in the repository, and a link to it leads there."""
    assert "](../benchmarks/README.md)" in (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert (site / "benchmarks" / "index.html").is_file()
    assert 'href="../benchmarks/index.html"' in (site / "docs" / "benchmarks.html").read_text(encoding="utf-8")


def parts(html: str) -> dict[str, int]:
    """Count what a page is made of."""
    return {tag: len(re.findall(f"<{tag}[ >]", html)) for tag in COUNTED}
