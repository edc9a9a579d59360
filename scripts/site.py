"""What mkdocs is told beside mkdocs.yml: which files the site has, and how they are read.

The site has the repository's shape: README.md is its first page, docs/ and what any page links to lie where they lie in the
repository. So a relative link that is right in one is right in the other, and mkdocs checks them all.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

LINK = re.compile(r"""(?:\]\(|^\[[^]]+\]:\s*|(?:src|href)=["'])<?([^\s)>#"']+)""", re.MULTILINE)
FENCE = re.compile(r"^( *```+\w+) .*$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's pages, and the files that they link to, in place of the folder's."""
    root = Path(config.config_file_path).parent
    folder = Path(config.docs_dir)
    for file in [one for one in files if one.src_dir == config.docs_dir]:
        files.remove(file)
    found = [*sorted(root.glob("*.md")), *sorted(path for path in folder.rglob("*") if path.is_file())]
    for path in found:
        if path.suffix == ".md":
            found += [linked for linked in _linked(path, root) if linked not in found]
        in_nav = InclusionLevel.INCLUDED if path.parent == folder else InclusionLevel.NOT_IN_NAV
        name = path.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path), inclusion=in_nav))
    return files


def _linked(page: Path, root: Path) -> list[Path]:
    named = (unquote(link) for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link)
    targets = dict.fromkeys((page.parent / name).resolve() for name in named)
    return [target for target in targets if target.is_file() and target.is_relative_to(root)]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Take what fences tell the tests off them: mkdocs would not know them as fences."""
    return FENCE.sub(r"\1", markdown)
