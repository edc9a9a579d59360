"""What the library promises is there, and a command line that does not need it does not pay for it."""

from __future__ import annotations

import os
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


def test_the_milvus_client_is_imported_beside_an_address_that_it_does_not_know() -> None:
    """It reads MILVUS_URI when it is imported; where that is a Milvus Lite file, Segue knows it and pymilvus need not."""
    asked = "import os, segue.stores.milvus_store; print(os.environ['MILVUS_URI'])"
    environment = {**os.environ, "MILVUS_URI": "./films.db"}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "./films.db"


def test_importing_the_package_imports_no_database_client() -> None:
    """`segue --help` answers at once, and an application pays for `connect` only when it calls it."""
    asked = "import sys, segue; print(sorted({'neo4j', 'pymilvus', 'grpc', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
