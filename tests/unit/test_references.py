"""The pages of docs/ that are made from the code are what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from segue import config

ROOT = Path(__file__).parents[2]
REFERENCES: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "references.py"))


@pytest.mark.parametrize("page", REFERENCES["PAGES"])
def test_a_page_is_up_to_date(page: str) -> None:
    """If not: make references."""
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == REFERENCES["PAGES"][page]()


def test_every_setting_says_what_it_means() -> None:
    """Each key has a sentence, and so does each section; a time has its unit."""
    sections = [section for _, section, _ in REFERENCES["_sections"](config.Settings)]
    assert len(sections) > 15
    for section in sections:
        assert issubclass(section, BaseModel)
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert (field.description or "").endswith("."), f"{section.__name__}.{name}"
            if name.endswith(("_seconds", "_gib")):
                assert REFERENCES["_unit"](field), f"{section.__name__}.{name}"


def test_every_environment_name_is_on_the_page() -> None:
    """Whatever variable is read sets a key that the page shows."""
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    names = {**config.PLAIN_VARIABLES, **config.SECRET_VARIABLES, **config.ADDRESS_VARIABLES}
    assert [name for name in names if f"`{name}`" not in page] == []


def test_no_option_means_something_by_brackets() -> None:
    """Help is shown with markup, in which words in brackets vanish."""
    described = [
        line for line in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `--")
    ]
    assert len(described) > 50
    assert [line for line in described if "[" in line] == []
