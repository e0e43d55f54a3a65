from tests.gateway.test_service import start  # noqa: F401 - a fixture
