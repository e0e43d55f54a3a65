import pytest

from gateway.errors import GatewayError
from gateway.nats_secrets import check_credentials, check_nkey

SEED = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y"  # of the bytes 0 to 31
JWT = "-----BEGIN NATS USER JWT-----\njwt\n------END NATS USER JWT------\n\n"
# As `nsc generate creds` writes it.
CREDENTIALS = (
    JWT + "************************* IMPORTANT *************************\n\n"
    "-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n"
)


def test_what_is_right_is_taken(tmp_path):
    path = tmp_path / "secret"
    path.write_text(CREDENTIALS.format(SEED))
    check_credentials(path)
    path.write_bytes(CREDENTIALS.format(SEED).replace("\n", "\r\n").encode())
    check_credentials(path)
    path.write_text(SEED + "\n")
    check_nkey(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no 'BEGIN NATS USER JWT'"),
        (JWT, "holds no 'BEGIN USER NKEY SEED'"),
        (CREDENTIALS.format(""), "holds no nkey seed"),
        (CREDENTIALS.format(SEED[:-1]), "holds no nkey seed"),
        (CREDENTIALS.format("SUé"), "holds no nkey seed"),
        (JWT + "BEGIN USER NKEY SEED", "holds no nkey seed"),
    ],
)
def test_what_is_wrong_is_told_without_the_secret(tmp_path, text, words):
    path = tmp_path / "secret"
    path.write_text(text)
    with pytest.raises(GatewayError, match=words) as caught:
        check_credentials(path)
    assert SEED[:-1] not in str(caught.value)


@pytest.mark.parametrize("text", ["", "nonsense", "\xff"])
def test_what_is_no_seed_is_told(tmp_path, text):
    path = tmp_path / "secret"
    path.write_text(text)
    with pytest.raises(GatewayError, match="holds no nkey seed"):
        check_nkey(path)
