"""The sources that a credential may claim besides its own, as the configuration has them."""

import pytest
from pydantic import ValidationError

from gateway.sources.coap.oscore_config import OscoreContext
from gateway.sources.coap.psk import PreSharedKey
from tests.gateway.sources.coap.oscore_device import SALT, SECRET

CREDENTIALS = {
    PreSharedKey: {"key": "open sesame"},
    OscoreContext: {
        "label": "oscdev",
        "sender_id": "01",
        "recipient_id": "",
        "master_secret": SECRET,
        "master_salt": SALT,
    },
}


@pytest.mark.parametrize("record", CREDENTIALS)
@pytest.mark.parametrize("source", ["", "/", "/plant/", "/plant#", "/plant/*"])
def test_what_would_allow_all_or_nothing_is_refused(record, source):
    with pytest.raises(ValidationError, match="may_speak_for"):
        record(**CREDENTIALS[record], may_speak_for=[source])


@pytest.mark.parametrize("record", CREDENTIALS)
def test_a_source_is_kept_as_it_is(record):
    made = record(**CREDENTIALS[record], may_speak_for=["/plant", "urn:plant:7"])
    assert made.may_speak_for == ["/plant", "urn:plant:7"]
