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


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config() == TrainConfig()


def test_a_file_wins_over_the_defaults_and_a_line_over_both(tmp_path: Path) -> None:
    path = written(tmp_path, "[fit]\nseed = 3\nepochs = 7\n[model]\nhidden = [4, 2]\n")
    config = load_config(path, ["fit.seed=9", "loss.kind=mae"])
    assert (config.fit.seed, config.fit.epochs, config.model.hidden, config.loss.kind) == (9, 7, (4, 2), "mae")
    assert config.optimizer == TrainConfig().optimizer


def test_a_whole_number_stands_for_a_fraction() -> None:
    assert load_config(None, ["optimizer.lr=1"]).optimizer.lr == 1.0


@pytest.mark.parametrize(
    ("line", "value"),
    [("model.decoder=mirror", "mirror"), ("model.decoder=[]", ()), ("model.decoder=[8, 16]", (8, 16))],
)
def test_a_decoder_mirrors_or_has_widths_of_its_own(line: str, value: object) -> None:
    assert load_config(None, [line]).model.decoder == value


@pytest.mark.parametrize(("line", "value"), [("optimizer.decoder_lr=same", "same"), ("optimizer.decoder_lr=0.5", 0.5)])
def test_a_decoder_has_the_rate_of_all_or_its_own(line: str, value: object) -> None:
    assert load_config(None, [line]).optimizer.decoder_lr == value


def test_settings_that_a_run_kept_make_the_same_configuration_again() -> None:
    config = load_config(None, ["model.hidden=[4, 2]", "optimizer.lr=0.5", "fit.epochs=7"])
    kept = json.loads(json.dumps(dataclasses.asdict(config)))
    assert build_config(kept) == config
    assert build_config({}) == TrainConfig()


def test_a_line_wins_over_the_settings_that_were_kept_and_leaves_them_as_they_are() -> None:
    kept = {"fit": {"seed": 3, "epochs": 7}}
    config = build_config(kept, ["fit.seed=9", "model.hidden=[4]"])
    assert (config.fit.seed, config.fit.epochs, config.model.hidden) == (9, 7, (4,))
    assert kept == {"fit": {"seed": 3, "epochs": 7}}


@pytest.mark.parametrize(
    ("kept", "field"),
    [
        ({"fit": {"seeds": 3}}, "fit.seeds"),
        ({"fti": {}}, "fti"),
        ({"fit": {"seed": "3"}}, "fit.seed"),
        ({"fit": {"seed": None}}, "fit.seed"),
        ({"optimizer": {"lr": math.nan}}, "optimizer.lr"),
        ({"model": {"hidden": [0]}}, "model.hidden"),
    ],
)
def test_settings_that_were_kept_are_held_to_the_same_keys(kept: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(kept)
    assert caught.value.field == field


def test_settings_do_not_change_once_made() -> None:
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
def test_what_is_unknown_mistyped_or_out_of_range_is_refused(line: str, field: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [line])
    assert caught.value.field == field
    assert expected in caught.value.expected


@pytest.mark.parametrize("line", ["fit.seed", "seed=3", ".seed=3", "fit.=3", "=3", ""])
def test_a_line_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        load_config(None, [line])


@pytest.mark.parametrize(
    ("text", "field"), [("[fit]\nseeds = 3", "fit.seeds"), ("fit = 3", "fit"), ("[fti]\nseed = 3", "fti")]
)
def test_a_file_is_held_to_the_same_keys(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert caught.value.field == field


def test_a_line_cannot_reach_into_what_is_no_section(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fit: expected a section, found 3"):
        load_config(written(tmp_path, "fit = 3"), ["fit.seed=1"])


@pytest.mark.parametrize("content", [b"[fit\nseed", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: expected a TOML file"):
        load_config(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: expected a readable file, found No such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 3_000])
def test_what_no_reader_bears_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fit\.epochs: expected a value that can be read"):
        load_config(None, [f"fit.epochs={value}"])
    (tmp_path / "c.toml").write_text(f"[fit]\nepochs = {value}\n")
    with pytest.raises(ConfigError, match="expected a TOML file"):
        load_config(tmp_path / "c.toml")


def test_a_line_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        load_config(None, ["fit.epochs=2\nseed=3"])


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes("[fit]\nepochs = 2\n".encode("utf-8-sig"))
    assert load_config(tmp_path / "c.toml").fit.epochs == 2
