"""The security contexts in the configuration."""

import pytest
from aiocoap import oscore
from pydantic import ValidationError

from gateway.sources.coap.oscore_config import _NONCE_BYTES, OscoreContext, parse_hex
from tests.gateway.sources.coap.device import config
from tests.gateway.sources.coap.oscore_device import SECRET, context


def test_ids_are_bytes_and_the_secret_is_not_shown():
    agreed = context(sender_id="0A", id_context="37cb")
    assert (agreed.sender_id, agreed.recipient_id, agreed.id_context) == (b"\n", b"", b"\x37\xcb")
    assert agreed.secret.hex() == SECRET
    assert SECRET not in repr(agreed) + agreed.model_dump_json()


@pytest.mark.parametrize(
    "changes",
    [
        {"label": ""},
        {"sender_id": 1},
        {"sender_id": "1"},
        {"sender_id": "0g"},
        {"sender_id": "01" * 8},
        {"recipient_id": "01" * 7, "algorithm": "A128GCM"},
        {"sender_id": "", "recipient_id": ""},
        {"id_context": "00" * 256},
        {"master_secret": "00" * 15},
        {"master_secret": "secret"},
        {"algorithm": "A128CBC"},
    ],
)
def test_a_wrong_context_is_refused(changes):
    with pytest.raises(ValidationError) as caught:
        config(oscore=[context(**changes)])
    assert SECRET not in str(caught.value)


def test_the_longest_ids_fit():
    context(sender_id="01" * 7, recipient_id="02" * 7)
    context(sender_id="01" * 6, recipient_id="02" * 6, algorithm="ChaCha20/Poly1305")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sender_id": "05"}, "same recipient_id and id_context"),
        ({"recipient_id": "05"}, "id '01' stands twice"),
        ({"recipient_id": "01", "sender_id": "05"}, "id '01' stands twice"),
    ],
)
def test_contexts_that_share_a_key_or_a_name_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        config(oscore=[context(), context(label="other", **changes)])


@pytest.mark.parametrize(
    "changes",
    [
        {"id_context": "01"},
        {"sender_id": "05", "recipient_id": "06"},
        {"recipient_id": "05", "master_secret": "ab" * 16},
    ],
)
def test_contexts_that_differ_enough_go_together(changes):
    assert len(config(oscore=[context(), context(label="other", **changes)]).oscore) == 2


def test_algorithms_and_their_nonces_are_aiocoap_s():
    for name, size in _NONCE_BYTES.items():
        assert oscore.algorithms[name].iv_bytes == size
        assert isinstance(oscore.algorithms[name], oscore.AeadAlgorithm)


def test_hexadecimal_text_is_asked_for_in_quotes():
    with pytest.raises(ValueError, match="in quotes"):
        parse_hex(10)
    assert OscoreContext.model_json_schema()["properties"]["sender_id"]["type"] == "string"
