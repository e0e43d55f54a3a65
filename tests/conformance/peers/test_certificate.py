import ssl
from pathlib import Path

from conformance.peers.certificate import self_signed


def test_files_last_as_long_as_the_context():
    with self_signed() as made:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(made.cert, made.key)
        assert made.context.verify_mode is ssl.CERT_REQUIRED
    assert not Path(made.cert).exists()
