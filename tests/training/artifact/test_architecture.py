import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookalike.training.artifact.architecture import MAX_VALUES, describe, rebuild
from lookalike.training.artifact.export import fold
from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import ACTIVATIONS

PICTURE = {"kind": "picture", "height": 4, "width": 3, "channels": 2}
CONV = {"kind": "conv", "ins": 2, "outs": 5}
DECONV = {"kind": "deconv", "ins": 2, "outs": 5, "below": 1, "right": 0}
SERIES = {"kind": "series", "length": 12, "channels": 2}
CONV1D = {"kind": "conv1d", "ins": 2, "outs": 5}
DECONV1D = {"kind": "deconv1d", "ins": 2, "outs": 5, "right": 1}
HUGE = 1 << 62


def zeros(name: str, shape: tuple[int, ...]) -> Tensor:
    """One number expanded to a weight of any size, which needs no more memory."""
    return torch.zeros(()).expand(shape)


def built(*layers: Any, ends: tuple[int, int]) -> tuple[nn.Sequential, int]:
    return rebuild("encoder", list(layers), zeros, ends=ends)


@settings(max_examples=40)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        st.tuples(st.integers(1, 30), st.integers(1, 4)),
        st.tuples(st.integers(1, 20)),
    ),
    channels=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    decoder=st.one_of(st.just("mirror"), st.lists(st.integers(1, 4), max_size=3).map(tuple)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    output=st.sampled_from(["linear", "sigmoid", "tanh"]),
)
def test_a_rebuilt_stack_has_the_same_results(
    shape: tuple[int, ...], channels: tuple[int, ...], decoder: Any, activation: Any, output: Any
) -> None:
    kind: Any = "mlp" if len(shape) == 1 else "conv"
    sizes = {"hidden": channels, "channels": channels, "decoder": decoder}
    model = Autoencoder(
        shape,
        2,
        ModelConfig(kind=kind, activation=activation, output=output, latent_norm=False, latent_noise=0.0, **sizes),
        series=len(shape) == 2,
    ).eval()
    rows = torch.randn(3, math.prod(shape))
    for half, ends in (("encoder", (rows.shape[1], 2)), ("decoder", (2, rows.shape[1]))):
        stack = fold(getattr(model, half))
        weights = stack.state_dict()

        def take(name: str, wanted: tuple[int, ...], half: str = half, weights: dict[str, Tensor] = weights) -> Tensor:
            found = weights.pop(name.removeprefix(f"{half}."))
            assert tuple(found.shape) == wanted
            return found

        rebuilt, _ = rebuild(half, json.loads(json.dumps(describe(stack))), take, ends=ends)
        assert weights == {}
        torch.testing.assert_close(rebuilt(rows), stack(rows))
        rows = stack(rows)


def test_describes_each_layer() -> None:
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


def test_describes_the_layers_of_a_series() -> None:
    config = ModelConfig(kind="conv", channels=(5,), batch_norm=False, latent_norm=False, latent_noise=0.0)
    model = Autoencoder((6, 2), 7, config, series=True)
    assert describe(model.encoder)[:2] == [
        {"kind": "series", "length": 6, "channels": 2},
        {"kind": "conv1d", "ins": 2, "outs": 5},
    ]
    assert describe(model.decoder)[2:] == [
        {"kind": "series", "length": 3, "channels": 5},
        {"kind": "deconv1d", "ins": 5, "outs": 2, "right": 1},
        {"kind": "linear"},
        {"kind": "rows"},
    ]


def test_the_widest_size_is_the_most_values_of_a_row() -> None:
    # 4 x 3 x 2 = 24 values become 2 x 2 x 5 = 20, fewer than the input; transposed, 8 x 5 x 5 = 200.
    assert built(PICTURE, CONV, {"kind": "rows"}, ends=(24, 20))[1] == 24
    assert built(PICTURE, DECONV, {"kind": "rows"}, ends=(24, 200))[1] == 200
    assert built({"kind": "dense", "ins": 3, "outs": 9}, {"kind": "dense", "ins": 9, "outs": 2}, ends=(3, 2))[1] == 9


def test_a_rebuilt_stack_cannot_be_trained() -> None:
    stack, _ = built(PICTURE, CONV, {"kind": "rows"}, ends=(24, 20))
    assert not stack.training
    assert not any(weights.requires_grad for weights in stack.parameters())


@pytest.mark.parametrize(
    ("layers", "ends", "message"),
    [
        ([{"kind": "dense", "ins": 7, "outs": 2}], (3, 2), "encoder layer 0 needs 7 columns, its input has 3"),
        ([{"kind": "dense", "ins": 3, "outs": 4}], (3, 2), "encoder ends with 4, not 2 columns"),
        ([], (3, 2), "encoder ends with 3, not 2 columns"),
        ([PICTURE], (23, 24), "layer 0 needs 4 x 3 x 2 columns, its input has 23"),
        ([PICTURE], (24, 24), "encoder ends with 4 x 3 x 2, not 24 columns"),
        ([PICTURE, PICTURE], (24, 24), "layer 1 needs 4 x 3 x 2 columns, its input has 4 x 3 x 2"),
        ([CONV], (2, 2), "layer 0 needs 2 channels, its input has 2"),
        ([PICTURE, {**CONV, "ins": 3}], (24, 20), "layer 1 needs 3 channels, its input has 4 x 3 x 2"),
        ([PICTURE, {**DECONV, "ins": 5}], (24, 20), "layer 1 needs 5 channels, its input has 4 x 3 x 2"),
        ([PICTURE, {**DECONV, "below": 2}], (24, 20), "layer 1 adds 2 and 0 to its sides, more than 1"),
        ([SERIES], (23, 24), "layer 0 needs 12 x 2 columns, its input has 23"),
        ([SERIES, CONV], (24, 30), "layer 1 needs 2 channels, its input has 12 x 2"),
        ([PICTURE, CONV1D], (24, 30), "layer 1 needs series of 2 channels, its input has 4 x 3 x 2"),
        ([CONV1D], (2, 30), "layer 0 needs series of 2 channels, its input has 2"),
        ([SERIES, {**CONV1D, "ins": 3}], (24, 30), "layer 1 needs series of 3 channels, its input has 12 x 2"),
        ([SERIES, {**DECONV1D, "right": 2}], (24, 30), "layer 1 adds 2 to its length, more than 1"),
        ([SERIES, DECONV1D], (24, 24), "encoder ends with 24 x 5, not 24 columns"),
        ([PICTURE, {**DECONV, "right": -1}], (24, 20), "layer 1 has right -1, expected a whole number from 0 on"),
        (
            [PICTURE, {"kind": "dense", "ins": 24, "outs": 2}],
            (24, 2),
            "layer 1 needs 24 columns, its input has 4 x 3 x 2",
        ),
        ([{"kind": "rows"}], (24, 24), "layer 0 needs pictures or series, not 24 columns"),
        (
            [{**PICTURE, "height": -4, "width": -3}],
            (24, 24),
            "layer 0 has height -4, expected a whole number from 1 on",
        ),
        ([{"kind": "dense", "ins": 3.0, "outs": 2}], (3, 2), r"layer 0 has ins 3\.0, expected a whole number"),
        ([{"kind": "dense", "ins": True, "outs": 2}], (1, 2), "layer 0 has ins True, expected a whole number"),
        ([{"kind": "dense", "ins": 3, "outs": 0}], (3, 0), "layer 0 has outs 0, expected a whole number"),
        ([{"kind": "dense", "ins": 3, "outs": "2"}], (3, 2), "layer 0 has outs '2', expected a whole number"),
        ([{"kind": "relu", "inplace": 1}], (3, 3), "layer 0 is an activation with inplace"),
        ([{"kind": "leaky_relu", "negative_slope": 5}], (3, 3), "layer 0 is an activation with negative_slope"),
    ],
)
def test_refuses_layers_that_do_not_fit_each_other(layers: list[Any], ends: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
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
def test_refuses_anything_but_a_layer(layer: Any) -> None:
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
def test_refuses_huge_sizes_before_allocating_memory(layers: list[Any], ends: Any) -> None:
    with pytest.raises(ValueError, match="values of a row, more than 268,435,456"):
        built(*layers, ends=ends)


def test_refuses_small_weights_with_a_huge_picture_between_layers() -> None:
    # Twenty doublings of one pixel with ten weights each: 2^20 x 2^20 values, and twenty halvings back to one.
    pixel = {"kind": "picture", "height": 1, "width": 1, "channels": 1}
    double = {"kind": "deconv", "ins": 1, "outs": 1, "below": 1, "right": 1}
    half = {"kind": "conv", "ins": 1, "outs": 1}
    with pytest.raises(ValueError, match="makes 1,099,511,627,776 values of a row"):
        built(pixel, *[double] * 20, *[half] * 20, {"kind": "rows"}, ends=(1, 1))
    stack, widest = built(pixel, *[double] * 3, *[half] * 3, {"kind": "rows"}, ends=(1, 1))
    assert (widest, stack(torch.ones(2, 1)).shape) == (64, (2, 1))


@pytest.mark.parametrize("value", [0, -1, 1.0, True, None, "1", [1]])
def test_a_size_must_be_a_whole_number_from_1_on(value: Any) -> None:
    with pytest.raises(ValueError, match="has width"):
        built({**PICTURE, "width": value}, ends=(24, 24))


GRADIENTS = {"kind": "gradients", "height": 4, "width": 6, "channels": 1, "cell": 2}


def test_gradients_append_their_values_and_count_towards_the_size() -> None:
    dense = {"kind": "dense", "ins": 24 + 54, "outs": 2}
    stack, widest = built(GRADIENTS, dense, ends=(24, 2))
    assert describe(stack)[0] == GRADIENTS
    assert widest == 240  # ten values of a pixel, between two steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 5}, "needs 4 x 5 x 1"),
        ({"cell": 7}, "cells of 7 pixels"),
        ({"cell": 0}, "cell 0"),
        ({"ins": 3}, "ins"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(GRADIENTS | change, ends=(24, 78))
