"""The model whose rows are scored."""

import pytest

from tests.helpers.mixed_model import MixedModel, pack_mixed


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> MixedModel:
    """A classifier with a feature of each type."""
    return pack_mixed(tmp_path_factory.mktemp("mixed"))
