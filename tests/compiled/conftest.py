import os

import pytest

from tests.compiled import builds as of


@pytest.fixture(scope="session")
def builds():
    """Both builds; a run that is about compiled modules (`make compiled-tests`) does not skip."""
    why = of.unusable()
    if why:
        if os.environ.get("TESTED_BUILD") == "compiled":
            pytest.fail(why)
        pytest.skip(why)
    with of.both() as builds:
        yield builds
