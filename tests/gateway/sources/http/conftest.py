"""Sources and their clients, over raw sockets."""

import pytest

from tests.gateway.raw_http import open_clients, running_sources


@pytest.fixture
async def start():
    """Start a source on a free port; returns the source and its intake."""
    async with running_sources() as start:
        yield start


@pytest.fixture
async def connect():
    """Connect to a source."""
    async with open_clients() as connect:
        yield connect
