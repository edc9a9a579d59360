"""What a test of outages leaves behind is cleared away where it is expected."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _late_connections() -> Iterator[None]:
    """Collect sockets that opened after their deadline, which the driver leaves open; anywhere else that is an error."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
