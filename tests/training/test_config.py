import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from lookalike.training.config import TrainConfig, build_config, load_config
from lookalike.training.errors import ConfigError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_all_settings_have_their_defaults() -> None:
    assert load_config() == TrainConfig()


def test_a_file_overrides_the_defaults_and_a_line_overrides_both(tmp_path: Path) -> None:
    path = written(tmp_path, "[fit]\nseed = 3\nepochs = 7\n[model]\nhidden = [4, 2]\n")
    config = load_config(path, ["fit.seed=9", "loss.kind=mae"])
    assert (config.fit.seed, config.fit.epochs, config.model.hidden, config.loss.kind) == (9, 7, (4, 2), "mae")
    assert config.optimizer == TrainConfig().optimizer


def test_accepts_an_integer_for_a_float_setting() -> None:
    assert load_config(None, ["optimizer.lr=1"]).optimizer.lr == 1.0


@pytest.mark.parametrize(
    ("line", "value"),
    [("model.decoder=mirror", "mirror"), ("model.decoder=[]", ()), ("model.decoder=[8, 16]", (8, 16))],
)
def test_a_decoder_mirrors_the_encoder_or_has_separate_widths(line: str, value: object) -> None:
    assert load_config(None, [line]).model.decoder == value


@pytest.mark.parametrize(("line", "value"), [("optimizer.decoder_lr=same", "same"), ("optimizer.decoder_lr=0.5", 0.5)])
def test_a_decoder_has_the_common_rate_or_a_separate_rate(line: str, value: object) -> None:
    assert load_config(None, [line]).optimizer.decoder_lr == value


def test_saved_settings_build_the_same_configuration() -> None:
    config = load_config(None, ["model.hidden=[4, 2]", "optimizer.lr=0.5", "fit.epochs=7"])
    saved = json.loads(json.dumps(dataclasses.asdict(config)))
    assert build_config(saved) == config
    assert build_config({}) == TrainConfig()


def test_a_line_overrides_saved_settings_without_changing_them() -> None:
    saved = {"fit": {"seed": 3, "epochs": 7}}
    config = build_config(saved, ["fit.seed=9", "model.hidden=[4]"])
    assert (config.fit.seed, config.fit.epochs, config.model.hidden) == (9, 7, (4,))
    assert saved == {"fit": {"seed": 3, "epochs": 7}}


@pytest.mark.parametrize(
    ("saved", "field"),
    [
        ({"fit": {"seeds": 3}}, "fit.seeds"),
        ({"fti": {}}, "fti"),
        ({"fit": {"seed": "3"}}, "fit.seed"),
        ({"fit": {"seed": None}}, "fit.seed"),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr"),
        ({"model": {"hidden": [0]}}, "model.hidden"),
    ],
)
def test_refuses_saved_settings_with_unknown_keys_or_invalid_values(saved: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(saved)
    assert caught.value.field == field


def test_settings_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config().fit.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("modle.hidden=[4]", "modle", "model"),
        ("model.latentdim=3", "model.latentdim", "latent_dim"),
        ("model.hidden=[0]", "model.hidden", "greater than or equal to 1"),
        ("model.hidden=64", "model.hidden", "array"),
        ("model.dropout=1.0", "model.dropout", "less than 1"),
        ("model.batch_norm=yes", "model.batch_norm", "boolean"),
        ("model.batch_norm=1", "model.batch_norm", "boolean"),
        ("fit.epochs=true", "fit.epochs", "integer; or 'auto'"),
        ("fit.epochs=0", "fit.epochs", "greater than or equal to 1; or 'auto'"),
        ("fit.epochs=soon", "fit.epochs", "'auto'"),
        ("fit.seed='3'", "fit.seed", "integer"),
        ("fit.seed=3.0", "fit.seed", "integer"),
        ("fit.seed=2020-01-01", "fit.seed", "integer"),
        ("optimizer.lr=true", "optimizer.lr", "number"),
        ("optimizer.lr=0", "optimizer.lr", "greater than 0"),
        ("optimizer.lr=nan", "optimizer.lr", "finite"),
        ("optimizer.lr=inf", "optimizer.lr", "finite"),
        ("data.validation=1", "data.validation", "less than 1"),
        ("loss.kind=cosine", "loss.kind", "'mse', 'mae', 'huber', 'bce_logits' or 'bce'"),
        ("loss.kind=", "loss.kind", "'mse', 'mae', 'huber', 'bce_logits' or 'bce'"),
        ("loss.kind=cross_entropy", "loss.kind", "'bce'"),
        ("model.kind=cnn", "model.kind", "'mlp' or 'conv'"),
        ("model.channels=[]", "model.channels", "at least 1 item"),
        ("model.channels=[0]", "model.channels", "greater than or equal to 1"),
        ("model.decoder=same", "model.decoder", "array; or 'mirror'"),
        ("model.decoder=[70000]", "model.decoder", "less than or equal to 65536; or 'mirror'"),
        ("model.activation=elu", "model.activation", "'silu'"),
        ("optimizer.decoder_lr=0", "optimizer.decoder_lr", "greater than 0; or 'same'"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay", "greater than or equal to 0"),
        ("optimizer.clip=-1", "optimizer.clip", "greater than or equal to 0"),
        ("optimizer.clip=nan", "optimizer.clip", "finite"),
        ("optimizer.nesterov=1", "optimizer.nesterov", "boolean"),
        ("optimizer.schedule=linear", "optimizer.schedule", "'plateau'"),
        ("optimizer.warmup=1", "optimizer.warmup", "less than 1"),
        ("corruption.kind=swaps", "corruption.kind", "'blocks' or 'swap'"),
        ("fit.precision=fp16", "fit.precision", "'auto', 'fp32' or 'bf16'"),
    ],
)
def test_refuses_unknown_mistyped_and_out_of_range_settings(line: str, field: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [line])
    assert caught.value.field == field
    assert expected in caught.value.expected


@pytest.mark.parametrize("line", ["fit.seed", "seed=3", ".seed=3", "fit.=3", "=3", ""])
def test_refuses_a_line_that_is_not_section_key_value(line: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        load_config(None, [line])


@pytest.mark.parametrize(
    ("text", "field"), [("[fit]\nseeds = 3", "fit.seeds"), ("fit = 3", "fit"), ("[fti]\nseed = 3", "fti")]
)
def test_refuses_a_file_with_unknown_keys(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert caught.value.field == field


def test_refuses_a_line_for_a_section_that_is_not_a_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fit: expected a section, found 3"):
        load_config(written(tmp_path, "fit = 3"), ["fit.seed=1"])


@pytest.mark.parametrize("content", [b"[fit\nseed", b"\xff\xfe", b"a = 1\na = 2"])
def test_names_a_file_that_is_not_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: expected a TOML file"):
        load_config(path)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: expected a readable file, found No such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 3_000])
def test_refuses_values_that_overflow_the_toml_reader(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fit\.epochs: expected a readable TOML value"):
        load_config(None, [f"fit.epochs={value}"])
    (tmp_path / "c.toml").write_text(f"[fit]\nepochs = {value}\n")
    with pytest.raises(ConfigError, match="expected a TOML file"):
        load_config(tmp_path / "c.toml")


def test_refuses_a_setting_with_a_line_break() -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        load_config(None, ["fit.epochs=2\nseed=3"])


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes("[fit]\nepochs = 2\n".encode("utf-8-sig"))
    assert load_config(tmp_path / "c.toml").fit.epochs == 2
