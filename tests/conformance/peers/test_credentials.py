from conformance.peers import credentials


def test_keys_are_different_and_as_long_as_every_stack_takes():
    keys = credentials.PSK
    assert len(set(keys.values())) == len(keys)
    assert all(1 <= len(key) <= 32 for key in keys.values())  # what mbedtls takes
    assert all(len(name.encode()) <= 128 for name in keys)  # RFC 4279 5.3


def test_the_context_is_that_of_rfc_8613():
    assert bytes(range(1, 17)) == credentials.MASTER_SECRET
    assert credentials.DEVICE_ID != credentials.GATEWAY_ID
