"""TLS contexts from the `tls:` table, for listeners and for connections."""

import ssl
from pathlib import Path

from gateway.config.records import TlsConfig
from gateway.errors import GatewayError


def listener_context(config: TlsConfig) -> ssl.SSLContext:
    """Return the context of a listener; demands client certificates if `verify`, or if `ca` is set.

    Raises:
        GatewayError: a file can't be read or does not fit; the text names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if config.cert is None:
        raise GatewayError("a TLS listener needs tls.cert")
    _load_own(context, config)
    if config.ca is not None:
        _load_ca(context, config)
    elif config.verify:
        raise GatewayError("tls.verify of a listener needs tls.ca: no client would be trusted")
    if config.demands_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(config: TlsConfig | None, *, extra_ca: str = "") -> ssl.SSLContext:
    """Return the context of a connection; checks the server unless `verify` is false.

    Args:
        config: the table; None means the system's CAs and no client certificate.
        extra_ca: PEM text of further CAs to trust (`K_CA_CERTS`).

    Raises:
        GatewayError: a file can't be read or does not fit; the text names it.
    """
    config = config or TlsConfig()
    context = ssl.create_default_context()
    if config.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_ca(context, config)
    if extra_ca:
        try:
            context.load_verify_locations(cadata=extra_ca)
        except ssl.SSLError as error:
            raise GatewayError(f"the additional CA certificates are no PEM: {error}") from error
    if config.cert is not None:
        _load_own(context, config)
    if config.verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_own(context: ssl.SSLContext, config: TlsConfig) -> None:
    assert config.cert is not None  # noqa: S101 - for the type checker
    for file in (config.cert, config.key):
        if file is not None:
            _check_readable(file)
    try:
        # An encrypted key has to fail; without a password OpenSSL would ask the terminal.
        context.load_cert_chain(config.cert, config.key, password="")
    except (OSError, ssl.SSLError) as error:
        key = f" with key {config.key}" if config.key is not None else ""
        raise GatewayError(f"can't load certificate {config.cert}{key}: {error}") from error


def _load_ca(context: ssl.SSLContext, config: TlsConfig) -> None:
    assert config.ca is not None  # noqa: S101 - for the type checker
    _check_readable(config.ca)
    try:
        context.load_verify_locations(config.ca)
    except (OSError, ssl.SSLError) as error:
        raise GatewayError(f"can't load CA file {config.ca}: {error}") from error


def _check_readable(file: Path) -> None:
    """Say which file can't be read: OpenSSL does not."""
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise GatewayError(f"can't read {file}: {error.strerror}") from error
