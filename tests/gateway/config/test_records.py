import pytest

from gateway.config.records import (
    Address,
    EventTemplate,
    TlsConfig,
    parse_address,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT5M", 300),
        ("P1DT2H", 93600),
        ("P2W", 1209600),
        ("PT1H30M", 5400),
        (5, 5),
        (0.5, 0.5),
        (0, 0),
    ],
)
def test_a_duration_is_iso_8601_or_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1DT", "P1Y", "P1M", "1s", "-PT1S", -1, True, None, float("inf"), "pt1s"],
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("64KiB", 65536), ("1GB", 10**9), ("5", 5), (7, 7), ("10 MiB", 10 * 2**20), ("3B", 3)],
)
def test_a_size_is_bytes_or_has_a_unit(text, number):
    assert parse_size(text) == number


@pytest.mark.parametrize("text", ["", "KiB", "1.5KiB", "5kb", -1, True, None, 1.5])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("0.0.0.0:5683", ("0.0.0.0", 5683), "0.0.0.0:5683"),
        ("[::1]:80", ("::1", 80), "[::1]:80"),
        (":0", ("0.0.0.0", 0), "0.0.0.0:0"),
        ("localhost:65535", ("localhost", 65535), "localhost:65535"),
    ],
)
def test_an_address_is_host_and_port(text, address, shown):
    assert parse_address(text) == address
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize("text", ["", "5683", "::1:80", "a:65536", "a:b", "a:", 80, None])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)


def test_a_port_that_is_none_is_told_so():
    with pytest.raises(ValueError, match="a port of at most 65535"):
        parse_address("127.0.0.1:65536")


def test_loopback_is_only_what_no_other_machine_reaches():
    assert [Address(host, 1).is_loopback for host in ("127.0.0.5", "::1", "localhost")] == [
        True
    ] * 3
    assert not Address("0.0.0.0", 1).is_loopback


def test_a_template_that_can_not_work_is_an_error():
    with pytest.raises(ValueError, match="did you mean"):
        EventTemplate(type="t", source="{tpoic}")


@pytest.mark.parametrize(
    ("verify", "ca", "demanded"),
    [
        (None, None, False),
        (None, "ca.pem", True),
        (True, "ca.pem", True),
        (False, "ca.pem", False),
    ],
)
def test_a_listener_demands_a_certificate_where_it_can_check_one(verify, ca, demanded):
    assert TlsConfig(verify=verify, ca=ca).demands_certificate is demanded
