"""Who sends, and how many of them are remembered."""

from bindings.coap import Identity, Peer
from gateway.sources.coap.datagrams import DatagramSocket
from gateway.sources.coap.peers import MAX_IDLE_PEERS, Peers


def test_idle_peers_are_forgotten_when_there_are_many_and_busy_ones_are_not():
    peers = Peers(DatagramSocket())
    busy = peers["192.0.2.1", 1]
    busy.in_flight = 1
    idle = peers["192.0.2.1", 2]
    assert peers["192.0.2.1", 2] is idle
    for port in range(3, MAX_IDLE_PEERS + 4):
        assert peers["192.0.2.1", port].in_flight == 0
    assert peers["192.0.2.1", 1] is busy
    assert peers["192.0.2.1", 2] is not idle


def test_message_ids_follow_each_other_and_begin_again_at_zero():
    endpoint = Peers(DatagramSocket())["192.0.2.1", 1]
    first = endpoint.new_mid()
    following = [endpoint.new_mid() for _ in range(0x10000)]
    assert following == [(first + 1 + n) % 0x10000 for n in range(0x10000)]


def test_an_endpoint_with_credentials_is_known_by_their_label():
    endpoint = Peers(DatagramSocket())["192.0.2.1", 1]
    assert not endpoint.peer.is_authenticated
    endpoint.authenticate(Identity("a b", ("/plant",)), b"dtls 1")
    assert endpoint.device == "a b"
    assert endpoint.peer == Peer(b"dtls 1", "/devices/a%20b", True, ("/plant",))


def test_an_address_without_its_zone_is_the_source():
    assert Peers(DatagramSocket())["fe80::1%eth0", 1, 0, 2].peer.source == "coap://[fe80::1]"
