"""LangChain's standard tests over the drop-in. Run by `test_langchain.py`, in an environment that has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from segue.integrations.langchain import SegueVectorStore


@pytest.fixture(scope="module")
def opened() -> Iterator[SegueVectorStore]:
    """The store that SEGUE_CONFIG names."""
    with SegueVectorStore(VectorStoreIntegrationTests.get_embeddings()) as one:
        yield one


class TestSegueVectorStore(VectorStoreIntegrationTests):
    """The suite, on an empty store a test."""

    @pytest.fixture
    def vectorstore(self, opened: SegueVectorStore) -> VectorStore:
        """Give the store without documents."""
        opened.delete([str(item.key) for item in opened.store.find({"key": {">=": ""}})])
        return opened
