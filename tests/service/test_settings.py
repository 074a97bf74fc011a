from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from lookalike.service.resources import memory_bytes
from lookalike.service.settings import Settings, load_settings
from lookalike.training.errors import ConfigError

ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "store": ("elsewhere", Path("elsewhere")),
    "host": ("::1", "::1"),
    "port": ("0", 0),
    "api_key": ("a key", SecretStr("a key")),
    "keys": ("keys.json", Path("keys.json")),
    "tls_cert": ("cert.pem", Path("cert.pem")),
    "tls_key": ("key.pem", Path("key.pem")),
    "cors_origins": ("https://a.example, http://b.example:81,", ("https://a.example", "http://b.example:81")),
    "device": ("cpu", "cpu"),
    "max_body_bytes": ("1", 1),
    "max_bytes_in_flight": ("1", 1),
    "max_answer_bytes": ("1", 1),
    "max_rows": ("2", 2),
    "max_pixels": ("1000", 1000),
    "max_limit": ("1023", 1023),
    "max_hits": ("77", 77),
    "max_connections": ("3", 3),
    "body_seconds": ("0.5", 0.5),
    "stop_seconds": ("4", 4),
    "max_waiting": ("9", 9),
    "deadline_seconds": ("1.5", 1.5),
    "workers": ("2", 2),
    "threads": ("5", 5),
    "compact_share": ("0.2", 0.2),
    "keep_versions": ("3", 3),
    "drift_once_in": ("1e5", 1e5),
    "log_level": ("info", "info"),
    "tracing": ("true", True),
}


def test_the_environment_sets_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (text, _) in ENVIRONMENT.items():
        monkeypatch.setenv(f"LOOKALIKE_{name.upper()}", text)
    read = load_settings()
    assert {name: getattr(read, name) for name in Settings.model_fields} == {
        name: value for name, (_, value) in ENVIRONMENT.items()
    }


def test_options_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_PORT", "1")
    assert load_settings(store=Path("s"), port=2).port == 2


def test_the_default_is_loopback_without_a_key() -> None:
    default = load_settings(store=Path("s"))
    assert (default.host, default.port, default.api_key) == ("127.0.0.1", 8000, None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "http"),
        ("device", "tpu"),
        ("max_body_bytes", "0"),
        ("max_bytes_in_flight", "0"),
        ("max_answer_bytes", "0"),
        ("max_rows", "0"),
        ("max_rows", "1.5"),
        ("max_limit", "1024"),
        ("max_limit", "0"),
        ("max_connections", "-3"),
        ("body_seconds", "0"),
        ("body_seconds", "inf"),
        ("body_seconds", "nan"),
        ("stop_seconds", "0"),
        ("threads", "0"),
        ("cors_origins", "https://a.example/"),
        ("cors_origins", "a.example"),
        ("cors_origins", "https://*.example"),
        ("compact_share", "-0.1"),
        ("drift_once_in", "1"),
        ("drift_once_in", "inf"),
        ("log_level", "loud"),
        ("tracing", "perhaps"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LOOKALIKE_{name.upper()}", text)
    with pytest.raises(ConfigError) as refused:
        load_settings(store=Path("s"))
    assert refused.value.field == name
    assert text in refused.value.found


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="prot"):
        load_settings(store=Path("s"), prot=1)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    assert load_settings(store=Path("s"), host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", "localhost.example.org", ""])
@pytest.mark.parametrize("key", [None, ""])
def test_other_addresses_need_a_key(host: str, key: str | None) -> None:
    with pytest.raises(ConfigError, match="LOOKALIKE_API_KEY"):
        load_settings(store=Path("s"), host=host, api_key=key)
    assert load_settings(store=Path("s"), host=host, api_key="k").host == host
    assert load_settings(store=Path("s"), host=host, api_key=key, keys=Path("keys.json")).host == host


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_a_certificate_and_its_key_go_together(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"because {given} is set") as refused:
        load_settings(store=Path("s"), **{given: "file.pem"})
    assert refused.value.field == missing


def test_no_origin_but_those_that_are_named() -> None:
    assert load_settings(store=Path("s")).cors_origins == ()
    assert load_settings(store=Path("s"), cors_origins=["*"]).cors_origins == ("*",)


def test_the_key_is_never_shown() -> None:
    assert "hidden" not in repr(load_settings(store=Path("s"), api_key="hidden"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings(store=Path("s")).port = 1  # type: ignore[misc]


def test_the_budget_for_bodies_is_a_share_of_the_memory_and_fits_one_body() -> None:
    one, two = (load_settings(store=Path("s"), max_body_bytes=1, workers=workers) for workers in (1, 2))
    assert one.bytes_in_flight // 2 == two.bytes_in_flight == memory_bytes() // 32
    assert load_settings(store=Path("s"), max_body_bytes=1 << 50).bytes_in_flight == 1 << 50
    assert load_settings(store=Path("s"), max_bytes_in_flight=7).bytes_in_flight == 7
