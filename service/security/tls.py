"""HTTPS: load and check the certificate and its private key."""

import ssl
from pathlib import Path

from lookalike.service.settings import Settings
from lookalike.training.errors import ConfigError

__all__ = ["tls_context"]


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with `tls_cert` and `tls_key`; None if they are not set.

    Raises:
        ConfigError: a file cannot be read or is not PEM, or the key has a passphrase or does not fit the certificate.
    """
    if not (settings.tls_cert and settings.tls_key):
        return None
    _check_holds("tls_cert", settings.tls_cert, "CERTIFICATE")
    _check_holds("tls_key", settings.tls_key, "PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            expected, found = f"the private key of {settings.tls_cert}", f"another private key in {settings.tls_key}"
            raise ConfigError("tls_key", expected=expected, found=found) from error
        found = f"{settings.tls_cert} and {settings.tls_key}, {error.reason or 'which are damaged'}"
        raise ConfigError("tls_cert and tls_key", expected="a certificate and its key", found=found) from error
    return context


def _check_holds(field: str, path: Path, what: str) -> None:
    expected = f"a PEM file with a {what.lower()}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(field, expected=expected, found=f"{path}, {error.strerror or error}") from error
    if f"{what}-----".encode() not in text:
        raise ConfigError(field, expected=expected, found=f"{path} without a {what.lower()}")


def _refuse_passphrase() -> str:
    """OpenSSL calls this if the key has a passphrase, which nobody can type here."""
    remedy = "Remove it with `openssl pkey -in KEY -out PLAIN`, and let only the service's user read that file."
    expected, found = "a private key without a passphrase", "a key with a passphrase"
    raise ConfigError("tls_key", expected=expected, found=found, remedy=remedy)
