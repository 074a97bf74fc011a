import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lookalike.service.security.tls import tls_context
from lookalike.service.settings import Settings
from lookalike.training.errors import ConfigError
from tests.service.changing import wait_until
from tests.service.helpers import settings_for
from tests.service.process import connect, running


def openssl(*words: object) -> None:
    program = shutil.which("openssl")
    assert program, "these tests make their certificates with openssl: install it"
    subprocess.run([program, *map(str, words)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two self-signed certificates for 127.0.0.1 with their keys, and a key with a passphrase."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("one", "two"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2),
            *("-subj", "/CN=lookalike", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
        )
    openssl("pkey", "-in", folder / "one.key", "-aes256", "-passout", "pass:x", "-out", folder / "locked.key")
    (folder / "cut.pem").write_bytes((folder / "one.pem").read_bytes().replace(b"MI", b"!!", 1))
    return folder


def given(folder: Path, cert: str, key: str) -> Settings:
    return settings_for(folder, tls_cert=folder / cert, tls_key=folder / key)


def test_without_a_certificate_there_is_no_tls(tmp_path: Path) -> None:
    assert tls_context(settings_for(tmp_path)) is None


def test_nothing_older_than_1_2(pems: Path) -> None:
    context = tls_context(given(pems, "one.pem", "one.key"))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("cert", "key", "field", "found"),
    [
        ("none.pem", "one.key", "tls_cert", "No such file"),
        ("one.pem", "none.key", "tls_key", "No such file"),
        ("", "one.key", "tls_cert", "Is a directory"),
        ("one.key", "one.key", "tls_cert", "without a certificate"),
        ("one.pem", "one.pem", "tls_key", "without a private key"),
        ("one.pem", "two.key", "tls_key", "another private key"),
        ("one.pem", "locked.key", "tls_key", "with a passphrase"),
        ("cut.pem", "one.key", "tls_cert and tls_key", "cut.pem"),
    ],
)
def test_names_an_unusable_file(pems: Path, cert: str, key: str, field: str, found: str) -> None:
    with pytest.raises(ConfigError) as refused:
        tls_context(given(pems, cert, key))
    assert refused.value.field == field
    assert found in refused.value.found
    assert refused.value.expected


def test_a_wrong_certificate_is_one_line_and_exit_code_2(pems: Path, store_folder: Path) -> None:
    files = ["--tls-cert", str(pems / "one.pem"), "--tls-key", str(pems / "two.key")]
    command = [sys.executable, "-m", "lookalike", "serve", "--store", str(store_folder), "--port", "0", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lookalike: tls_key: expected the private key of ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_it_serves_https_and_follows_its_keys(pems: Path, store_folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"format": "lookalike-keys-1", "keys": []}')
    keys.chmod(0o600)
    files = ("--tls-cert", str(pems / "one.pem"), "--tls-key", str(pems / "one.key"), "--keys", str(keys))
    with running("serve", "--store", str(store_folder), "--port", "0", *files) as process:
        assert process.url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(pems / "one.pem"))
        with httpx.Client(verify=trusted, base_url=process.url) as client:
            assert client.get("/readyz").json()["ready"] is True
            assert client.get("/version").status_code == 401
            command = [sys.executable, "-m", "lookalike", "keys", "add", "shop", "--keys", str(keys)]
            added = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            headers = {"X-API-Key": added.stdout.strip()}
            wait_until(lambda: client.get("/version", headers=headers).status_code == 200)
            assert client.get("/version", headers=headers).json()["version"] == 1
        with connect(process.address, "GET /readyz HTTP/1.1\nHost: localhost\n\n") as plain:
            assert b"HTTP/1.1 200" not in plain.recv(65_536)
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{process.url}/readyz")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(pems / "one.pem")
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with connect(process.address) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain, server_hostname="127.0.0.1")
        assert process.stop()[0] == 0
