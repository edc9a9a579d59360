"""The second half of the pages that have something to run, each followed on real servers from its first block to its last."""

from __future__ import annotations

import pytest

from documents.following import Reader, enter
from documents.halves import HALVES
from documents.page import Page
from documents.place import Place

HALF = 1
pytestmark = pytest.mark.timeout(1_200)


@pytest.mark.parametrize("page", HALVES[HALF], indirect=True)
def test_a_page_can_be_followed(page: Page, beginning: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands end as it says and print what it shows, its Python runs, its configuration is valid."""
    enter(beginning, monkeypatch)
    Reader(page, beginning).follow()
