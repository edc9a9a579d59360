"""What the library promises is there, and a command line that does not need it does not pay for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import segue


@pytest.mark.parametrize("name", segue.__all__)
def test_every_promised_name_is_there(name: str) -> None:
    """Each is imported when it is asked for, from where it lives."""
    assert getattr(segue, name) is not None


def test_another_name_is_an_error_like_any_other() -> None:
    """As of every module."""
    with pytest.raises(AttributeError, match="module 'segue' has no attribute 'conect'"):
        _ = segue.conect


def test_importing_the_package_imports_no_database_client() -> None:
    """`segue --help` answers at once, and an application pays for `connect` only when it calls it."""
    asked = "import sys, segue; print(sorted({'neo4j', 'pymilvus', 'grpc', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
