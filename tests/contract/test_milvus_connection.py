"""Milvus's refusals in Segue's words: which of them are worth another try, and which are the rows' own fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from segue.errors import (
    AuthenticationFailed,
    DatabaseNotFound,
    DataError,
    NotLoaded,
    SegueError,
    StoreTimeout,
    StoreUnavailable,
    Throttled,
)
from segue.sandbox import Endpoint
from segue.stores.milvus_connection import MilvusConnection

from .sinks import Filled, layout_of, rows_of, scratch


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (65535, "auth check failure, please check username and password are correct", AuthenticationFailed),
        (800, "database not found[database=films]", DatabaseNotFound),
        (8, "rate limit exceeded", Throttled),
        (49, "quota exceeded", Throttled),
        (101, "failed to query: collection not loaded[collection=4708]", NotLoaded),
        (103, "collection not fully loaded[collection=4708]", NotLoaded),
        (2, "service unavailable", StoreUnavailable),
        (9, "deny to write: disk quota exceeded", StoreUnavailable),
        (grpc.StatusCode.UNAVAILABLE, "[delete] Retry timeout: 5.0s, failed to connect to all addresses", StoreUnavailable),
        (10001, "syncTimestamp Failed:context deadline exceeded", StoreTimeout),
        (65535, "proxy TaskCondition context Done", StoreTimeout),
        (65535, "attempt #0: stack trace: stack_trace.go:51\nattempt #1: session not found->datanode-1", StoreUnavailable),
        (65535, "attempt #1: rpc error: desc = node not match[expectedNodeID=1][actualNodeID=2]", StoreUnavailable),
        (1100, "the length (514) of 0th string exceeds max length (512)", DataError),
        (65535, "the length(5) of float data should divide the dim(4)", DataError),
        (1100, "field author: check failed, the length exceeds the maximum", DataError),
    ],
)
def test_a_status_becomes_an_error(tmp_path: Path, code: int | grpc.StatusCode, message: str, error: type[SegueError]) -> None:
    """By code and words: credentials, database, asking for less, not ready, out of time; anything else is the rows."""
    with MilvusConnection(str(tmp_path / "milvus.db")) as connection:
        found = connection.refusal(code, message)
    assert type(found) is error
    assert connection.uri in found.message


@pytest.mark.parametrize("token", ["root:wrong", "nobody:secret", ""])
def test_a_refused_token_is_said(milvus_endpoint: Endpoint, token: str) -> None:
    """Wrong or missing credentials are named as such, at once, and not shown."""
    with pytest.raises(AuthenticationFailed) as refusal:
        MilvusConnection(milvus_endpoint.uri, token=token)
    assert "MILVUS_TOKEN" in refusal.value.hint
    assert "wrong" not in refusal.value.message + refusal.value.hint


def test_a_database_that_is_not_there_is_said(milvus_endpoint: Endpoint) -> None:
    """The name of the database is in the message."""
    token = f"{milvus_endpoint.username}:{milvus_endpoint.password}"
    with pytest.raises(DatabaseNotFound, match="'nowhere'"):
        MilvusConnection(milvus_endpoint.uri, token=token, database="nowhere")


def test_rows_that_pymilvus_itself_refuses_are_data_errors(sinks: Callable[[str], Filled]) -> None:
    """A column that is missing or of another type is found by pymilvus before it sends: not worth another try."""
    filled = sinks("milvus-lite")
    layout = layout_of("text", scratch())
    filled.place.sink.create(layout)
    for year in (None, ["a", "b"]):
        rows = rows_of(layout, ["a", "b"])
        columns = {name: values for name, values in rows.columns.items() if name != "year"}
        rows = type(rows)(rows.keys, rows.vectors, columns | ({"year": year} if year else {}))
        ack = filled.place.sink.upsert(layout, rows)
        with pytest.raises(DataError, match="year"):
            ack.result()
