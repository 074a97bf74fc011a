import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookalike.training.artifact.architecture import MAX_VALUES, check_size, describe, rebuild
from lookalike.training.artifact.export import fold
from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import ACTIVATIONS

PICTURE = {"kind": "picture", "height": 4, "width": 3, "channels": 2}
CONV = {"kind": "conv", "ins": 2, "outs": 5}
DECONV = {"kind": "deconv", "ins": 2, "outs": 5, "below": 1, "right": 0}
HUGE = 1 << 62


def give(name: str, shape: tuple[int, ...]) -> Tensor:
    """One number that stands for a weight of any size, and takes no more room than that."""
    return torch.zeros(()).expand(shape)


def built(*layers: Any, ends: tuple[int, int]) -> tuple[nn.Sequential, int]:
    return rebuild("encoder", list(layers), give, ends=ends)


@settings(max_examples=40)
@given(
    shape=st.one_of(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)), st.tuples(st.integers(1, 20))),
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    decoder=st.one_of(st.just("mirror"), st.lists(st.integers(1, 4), max_size=3).map(tuple)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    output=st.sampled_from(["linear", "sigmoid", "tanh"]),
)
def test_what_is_told_is_built_again_and_answers_the_same(
    shape: tuple[int, ...], channels: tuple[int, ...], decoder: Any, activation: Any, output: Any
) -> None:
    kind: Any = "mlp" if len(shape) == 1 else "conv"
    sizes = {"hidden": channels, "channels": channels, "decoder": decoder}
    model = Autoencoder(
        shape,
        2,
        ModelConfig(kind=kind, activation=activation, output=output, latent_norm=False, latent_noise=0.0, **sizes),
    ).eval()
    rows = torch.randn(3, math.prod(shape))
    for half, ends in (("encoder", (rows.shape[1], 2)), ("decoder", (2, rows.shape[1]))):
        stack = fold(getattr(model, half))
        weights = stack.state_dict()

        def take(name: str, wanted: tuple[int, ...], half: str = half, weights: dict[str, Tensor] = weights) -> Tensor:
            found = weights.pop(name.removeprefix(f"{half}."))
            assert tuple(found.shape) == wanted
            return found

        again, _ = rebuild(half, json.loads(json.dumps(describe(stack))), take, ends=ends)
        assert weights == {}
        torch.testing.assert_close(again(rows), stack(rows))
        rows = stack(rows)


def test_layers_are_told_as_they_are() -> None:
    model = Autoencoder(
        (3, 4, 2),
        7,
        ModelConfig(
            kind="conv", channels=(5,), batch_norm=False, activation="relu", latent_norm=False, latent_noise=0.0
        ),
    )
    assert describe(model.encoder) == [
        {"kind": "picture", "height": 3, "width": 4, "channels": 2},
        {"kind": "conv", "ins": 2, "outs": 5},
        {"kind": "relu"},
        {"kind": "rows"},
        {"kind": "dense", "ins": 20, "outs": 7},
        {"kind": "linear"},
    ]
    assert describe(model.decoder)[2:] == [
        {"kind": "picture", "height": 2, "width": 2, "channels": 5},
        {"kind": "deconv", "ins": 5, "outs": 2, "below": 0, "right": 1},
        {"kind": "linear"},
        {"kind": "rows"},
    ]


def test_the_widest_place_is_where_a_row_has_the_most_values() -> None:
    # 4 x 3 x 2 = 24 values become 2 x 2 x 5 = 20, or as they come in; transposed, 8 x 5 x 5 = 200.
    assert built(PICTURE, CONV, {"kind": "rows"}, ends=(24, 20))[1] == 24
    assert built(PICTURE, DECONV, {"kind": "rows"}, ends=(24, 200))[1] == 200
    assert built({"kind": "dense", "ins": 3, "outs": 9}, {"kind": "dense", "ins": 9, "outs": 2}, ends=(3, 2))[1] == 9


def test_what_was_built_learns_nothing_more() -> None:
    stack, _ = built(PICTURE, CONV, {"kind": "rows"}, ends=(24, 20))
    assert not stack.training
    assert not any(weights.requires_grad for weights in stack.parameters())


@pytest.mark.parametrize(
    ("layers", "ends", "told"),
    [
        ([{"kind": "dense", "ins": 7, "outs": 2}], (3, 2), "encoder layer 0 takes 7 columns of 3"),
        ([{"kind": "dense", "ins": 3, "outs": 4}], (3, 2), "encoder ends with 4, not 2 columns"),
        ([], (3, 2), "encoder ends with 3, not 2 columns"),
        ([PICTURE], (23, 24), "layer 0 takes 4 x 3 x 2 columns of 23"),
        ([PICTURE], (24, 24), "encoder ends with 4 x 3 x 2, not 24 columns"),
        ([PICTURE, PICTURE], (24, 24), "layer 1 takes 4 x 3 x 2 columns of 4 x 3 x 2"),
        ([CONV], (2, 2), "layer 0 takes 2 channels of 2"),
        ([PICTURE, {**CONV, "ins": 3}], (24, 20), "layer 1 takes 3 channels of 4 x 3 x 2"),
        ([PICTURE, {**DECONV, "ins": 5}], (24, 20), "layer 1 takes 5 channels of 4 x 3 x 2"),
        ([PICTURE, {**DECONV, "below": 2}], (24, 20), "layer 1 adds 2 and 0 to its sides, more than 1"),
        ([PICTURE, {**DECONV, "right": -1}], (24, 20), "layer 1 has right -1, no whole number from 0 on"),
        ([PICTURE, {"kind": "dense", "ins": 24, "outs": 2}], (24, 2), "layer 1 takes 24 columns of 4 x 3 x 2"),
        ([{"kind": "rows"}], (24, 24), "layer 0 takes pictures, not 24 columns"),
        ([{**PICTURE, "height": -4, "width": -3}], (24, 24), "layer 0 has height -4, no whole number from 1 on"),
        ([{"kind": "dense", "ins": 3.0, "outs": 2}], (3, 2), r"layer 0 has ins 3\.0, no whole number"),
        ([{"kind": "dense", "ins": True, "outs": 2}], (1, 2), "layer 0 has ins True, no whole number"),
        ([{"kind": "dense", "ins": 3, "outs": 0}], (3, 0), "layer 0 has outs 0, no whole number"),
        ([{"kind": "dense", "ins": 3, "outs": "2"}], (3, 2), "layer 0 has outs '2', no whole number"),
        ([{"kind": "relu", "inplace": 1}], (3, 3), "layer 0 is an activation with inplace"),
        ([{"kind": "leaky_relu", "negative_slope": 5}], (3, 3), "layer 0 is an activation with negative_slope"),
    ],
)
def test_layers_that_do_not_follow_on_each_other_are_refused(
    layers: list[Any], ends: tuple[int, int], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        built(*layers, ends=ends)


@pytest.mark.parametrize(
    "layer",
    [
        {},
        {"kind": "conv9"},
        {"kind": ["dense"]},
        {"kind": "dense", "ins": 3},
        {"kind": "dense", "ins": 3, "outs": 3, "bias": 1},
        {"kind": "rows", "size": 3},
        {"kind": "rows", "take": 3},
        {"ins": 3, "outs": 3},
        "dense",
        None,
        3,
    ],
)
def test_what_is_no_layer_is_refused(layer: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        built(layer, ends=(3, 3))


@pytest.mark.parametrize(
    ("layers", "ends"),
    [
        ([{"kind": "picture", "height": HUGE, "width": HUGE, "channels": HUGE}, {"kind": "rows"}], (HUGE**3, HUGE**3)),
        ([{**PICTURE, "height": HUGE}, CONV, {"kind": "rows"}], (HUGE * 6, HUGE // 2 * 2 * 5)),
        ([{"kind": "dense", "ins": 1, "outs": MAX_VALUES + 1}], (1, MAX_VALUES + 1)),
    ],
)
def test_sizes_that_no_memory_holds_are_refused_before_any_is_asked_for(layers: list[Any], ends: Any) -> None:
    with pytest.raises(ValueError, match="values of a row, more than 268,435,456"):
        built(*layers, ends=ends)


def test_small_weights_that_make_a_huge_picture_and_a_small_one_again_are_refused() -> None:
    # Twenty doublings of one pixel with ten weights each: 2^20 x 2^20 values, and twenty halvings back to one.
    pixel = {"kind": "picture", "height": 1, "width": 1, "channels": 1}
    double = {"kind": "deconv", "ins": 1, "outs": 1, "below": 1, "right": 1}
    half = {"kind": "conv", "ins": 1, "outs": 1}
    with pytest.raises(ValueError, match="makes 1,099,511,627,776 values of a row"):
        built(pixel, *[double] * 20, *[half] * 20, {"kind": "rows"}, ends=(1, 1))
    stack, widest = built(pixel, *[double] * 3, *[half] * 3, {"kind": "rows"}, ends=(1, 1))
    assert (widest, stack(torch.ones(2, 1)).shape) == (64, (2, 1))


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "1", [1]])
def test_only_whole_numbers_from_1_on_are_sizes(value: Any) -> None:
    with pytest.raises(ValueError, match="has width"):
        check_size("width", value)
    assert check_size("width", 1) == 1
