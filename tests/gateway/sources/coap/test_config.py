"""The source's table in the configuration."""

import pytest
from pydantic import ValidationError

from tests.gateway.sources.coap.device import config


@pytest.mark.parametrize(
    "changes",
    [
        {"routes": {"ce": {}}},
        {"routes": {"/ce/": {}}},
        {"routes": {"/.well-known/core": {}}},
        {"routes": {}},
        {"routes": {"/t": {"source": "/{device"}}},
        {"routes": {"/t": {"subject": "{topic}"}}},
        {"routes": {"/t": {"subject": "{path[1]}"}}},
        {"event": {"type": "t", "source": "/{client_id}"}},
        {"ack_after": 2},
        {"ack_after": 1, "sink_timeout": 1},
        {"sink_timeout": 93},
    ],
)
def test_a_wrong_configuration_is_refused(changes):
    with pytest.raises(ValidationError):
        config(**changes)
