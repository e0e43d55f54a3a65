"""TLS contexts, tried in handshakes between a listener and a client in memory."""

import ssl

import pytest

from gateway.config.records import TlsConfig
from gateway.errors import GatewayError
from gateway.tls import client_context, listener_context


def handshake(listener, client, hostname="localhost"):
    """Do a whole handshake in memory and exchange a byte; returns the listener's side."""
    to_listener, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = listener.wrap_bio(to_listener, to_client, server_side=True)
    client_side = client.wrap_bio(to_client, to_listener, server_hostname=hostname)
    pending = [client_side.do_handshake, server_side.do_handshake]
    while pending:
        step = pending.pop(0)
        try:
            step()
        except ssl.SSLWantReadError:
            pending.append(step)
    # With TLS 1.3 a client that is refused learns it only with the first byte it reads.
    server_side.write(b"x")
    assert client_side.read(1) == b"x"
    return server_side


@pytest.fixture
def listener_config(certificates):
    return TlsConfig(cert=certificates.server_cert, key=certificates.server_key)


@pytest.fixture
def other_certificates(tmp_path):
    from tests.helpers import make_certificates

    return make_certificates(tmp_path)


def test_client_that_trusts_the_ca_connects(listener_config, certificates):
    side = handshake(
        listener_context(listener_config), client_context(TlsConfig(ca=certificates.ca))
    )
    assert side.version() in {"TLSv1.2", "TLSv1.3"}
    assert side.getpeercert() is None


def test_client_without_the_ca_refuses_the_listener(listener_config):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get"):
        handshake(listener_context(listener_config), client_context(None))


def test_client_with_another_ca_refuses_the_listener(listener_config, other_certificates):
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(
            listener_context(listener_config), client_context(TlsConfig(ca=other_certificates.ca))
        )


def test_client_refuses_a_certificate_of_another_host(listener_config, certificates):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(
            listener_context(listener_config),
            client_context(TlsConfig(ca=certificates.ca)),
            hostname="example.com",
        )


def test_client_that_does_not_verify_takes_any_listener(listener_config):
    handshake(
        listener_context(listener_config), client_context(TlsConfig(verify=False)), "example.com"
    )


def test_client_trusts_extra_cas(listener_config, certificates):
    handshake(
        listener_context(listener_config),
        client_context(None, extra_ca=certificates.ca.read_text()),
    )


def test_listener_with_a_ca_demands_a_certificate(listener_config, certificates):
    listener = listener_context(listener_config.model_copy(update={"ca": certificates.ca}))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(listener, client_context(TlsConfig(ca=certificates.ca)))


def test_listener_with_a_ca_takes_a_client_with_its_certificate(listener_config, certificates):
    listener = listener_context(listener_config.model_copy(update={"ca": certificates.ca}))
    client = TlsConfig(
        ca=certificates.ca, cert=certificates.client_cert, key=certificates.client_key
    )
    subject = handshake(listener, client_context(client)).getpeercert()["subject"]
    assert subject == ((("commonName", "device-1"),),)


def test_listener_refuses_a_client_of_another_ca(listener_config, certificates, other_certificates):
    listener = listener_context(listener_config.model_copy(update={"ca": certificates.ca}))
    client = TlsConfig(
        ca=certificates.ca,
        cert=other_certificates.client_cert,
        key=other_certificates.client_key,
    )
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
        handshake(listener, client_context(client))


def test_listener_that_does_not_verify_takes_a_client_without_certificate(
    listener_config, certificates
):
    update = {"ca": certificates.ca, "verify": False}
    listener = listener_context(listener_config.model_copy(update=update))
    handshake(listener, client_context(TlsConfig(ca=certificates.ca)))


def test_key_may_stand_in_the_certificates_file(certificates, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(certificates.server_cert.read_bytes() + certificates.server_key.read_bytes())
    handshake(listener_context(TlsConfig(cert=both)), client_context(TlsConfig(ca=certificates.ca)))


def test_listener_without_a_certificate_is_refused():
    with pytest.raises(GatewayError, match=r"needs tls\.cert"):
        listener_context(TlsConfig())


@pytest.mark.parametrize("make", [listener_context, client_context])
def test_file_that_is_missing_is_named(make, certificates, tmp_path):
    missing = tmp_path / "missing.pem"
    cert, key = certificates.server_cert, certificates.server_key
    wrong = [(missing, key, None), (cert, missing, None), (cert, key, missing)]
    for cert, key, ca in wrong:
        with pytest.raises(GatewayError) as raised:
            make(TlsConfig(cert=cert, key=key, ca=ca))
        assert str(raised.value) == f"can't read {missing}: No such file or directory"


@pytest.mark.parametrize("make", [listener_context, client_context])
def test_key_of_another_certificate_is_named(make, certificates):
    with pytest.raises(GatewayError, match=r"client\.key"):
        make(TlsConfig(cert=certificates.server_cert, key=certificates.client_key))


@pytest.mark.parametrize("make", [listener_context, client_context])
def test_file_that_is_no_pem_is_named(make, certificates, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    with pytest.raises(GatewayError, match=r"garbage\.pem"):
        make(TlsConfig(cert=garbage))
    with pytest.raises(GatewayError, match=r"garbage\.pem"):
        make(TlsConfig(cert=certificates.server_cert, key=certificates.server_key, ca=garbage))


def test_additional_ca_certificates_that_are_none_are_a_gateway_error():
    with pytest.raises(GatewayError, match="additional CA certificates"):
        client_context(None, extra_ca="garbage")


def test_a_listener_that_verifies_needs_a_ca(certificates):
    config = TlsConfig(cert=certificates.server_cert, key=certificates.server_key, verify=True)
    with pytest.raises(GatewayError, match=r"needs tls\.ca"):
        listener_context(config)


def test_an_encrypted_key_is_an_error_and_asks_nobody(certificates, tmp_path):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(certificates.server_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(GatewayError, match="can't load certificate"):
        listener_context(TlsConfig(cert=certificates.server_cert, key=encrypted))
