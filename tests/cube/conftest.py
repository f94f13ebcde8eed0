from __future__ import annotations

import pytest
from tiny_catalog import Written, write_catalog


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_catalog(tmp_path_factory.mktemp("tiny-catalog"))
