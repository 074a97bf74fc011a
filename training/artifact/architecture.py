"""Layers as JSON, and layers rebuilt from JSON; only layers that fit the weights and each other are accepted.

    {"kind": "gradients", "height": 8, "width": 8, "channels": 1, "cell": 2}    rows -> rows with their descriptor
    {"kind": "dense", "ins": 64, "outs": 32}                            rows of 64 values -> rows of 32
    {"kind": "picture", "height": 8, "width": 8, "channels": 1}         rows -> pictures
    {"kind": "conv", "ins": 1, "outs": 32}                              sides of s become ceil(s / 2)
    {"kind": "deconv", "ins": 32, "outs": 1, "below": 1, "right": 0}    sides of s become 2 s - 1, plus 1 if set
    {"kind": "series", "length": 256, "channels": 6}                    rows -> series
    {"kind": "conv1d", "ins": 6, "outs": 32}                            a length of s becomes ceil(s / 2)
    {"kind": "deconv1d", "ins": 32, "outs": 6, "right": 1}              a length of s becomes 2 s - 1, plus 1 if set
    {"kind": "rows"}                                                    pictures or series -> rows
    {"kind": "silu"}                                                    an activation

Kernels are 3 x 3, in one dimension 5, with a stride of 2. Dense layers and convolutions have a weight and a bias,
gradients a base, an offset and a factor, the others nothing.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from lookalike.training.artifact.steady import Conv, Deconv, Dense, SeriesConv, SeriesDeconv, steady_activation
from lookalike.training.models.conv import KERNEL, PADDING, SERIES_KERNEL, SERIES_PADDING, STRIDE
from lookalike.training.models.descriptors import Gradients, WithDescriptor
from lookalike.training.models.layers import ACTIVATIONS, ToPicture, ToRows, ToSeries

__all__ = ["MAX_VALUES", "describe", "rebuild"]

MAX_VALUES = 1 << 28
"""The most values of a row between two layers. A manifest with more could exhaust the memory."""

Take = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) -> the tensor of that name and shape; raises ArtifactError if there is none."""

Size = tuple[int, ...]
"""The size of a row between two layers: (values,), (height, width, channels), or (length, channels) of a series."""

Reader = Callable[..., tuple[nn.Module, Size]]


def describe(stack: nn.Sequential) -> list[dict[str, Any]]:
    """The layers in order, as plain JSON."""
    return [_describe(layer) for layer in stack]


def rebuild(half: str, layers: list[Any], take: Take, *, ends: tuple[int, int]) -> tuple[nn.Sequential, int]:
    """Rebuild the stack from the output of `describe`, in eval mode; also return a row's largest size between layers.

    Args:
        half: "encoder" or "decoder"; a weight's name is "encoder.0.weight".
        ends: the number of values of a row before the first layer and after the last.

    Raises:
        ArtifactError: from `take`.
        ValueError, TypeError, KeyError: the layers do not fit each other, or are not layers.
    """
    size: Size = (ends[0],)
    stack, widest = nn.Sequential(), ends[0]
    for number, fields in enumerate(layers):
        try:
            layer, size = _read(size, partial(_prefixed, take, f"{half}.{number}."), **fields)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{half} layer {number} {error}") from error
        stack.append(layer)
        within = layer.descriptor.largest if isinstance(layer, WithDescriptor) else 0
        widest = max(widest, math.prod(size), within)
    if size != (ends[1],):
        raise ValueError(f"{half} ends with {_size_text(size)}, not {ends[1]} columns")
    if widest > MAX_VALUES:
        raise ValueError(f"{half} makes {widest:,} values of a row, more than {MAX_VALUES:,}")
    return stack.eval().requires_grad_(False), widest


def _describe(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, WithDescriptor):
        height, width, channels = layer.descriptor.shape
        sizes = {"height": height, "width": width, "channels": channels, "cell": layer.descriptor.cell}
        return {"kind": "gradients", **sizes}
    if isinstance(layer, nn.Linear):
        return {"kind": "dense", "ins": layer.in_features, "outs": layer.out_features}
    if isinstance(layer, nn.Conv2d):
        return {"kind": "conv", "ins": layer.in_channels, "outs": layer.out_channels}
    if isinstance(layer, nn.ConvTranspose2d):
        below, right = layer.output_padding
        sizes = {"ins": layer.in_channels, "outs": layer.out_channels, "below": below, "right": right}
        return {"kind": "deconv", **sizes}
    if isinstance(layer, nn.Conv1d):
        return {"kind": "conv1d", "ins": layer.in_channels, "outs": layer.out_channels}
    if isinstance(layer, nn.ConvTranspose1d):
        (right,) = layer.output_padding
        return {"kind": "deconv1d", "ins": layer.in_channels, "outs": layer.out_channels, "right": right}
    if isinstance(layer, ToSeries):
        return {"kind": "series", **dict(zip(("length", "channels"), layer.shape, strict=True))}
    if isinstance(layer, ToPicture):
        return {"kind": "picture", **dict(zip(("height", "width", "channels"), layer.shape, strict=True))}
    if isinstance(layer, ToRows):
        return {"kind": "rows"}
    return {"kind": next(name for name, kind in ACTIVATIONS.items() if isinstance(layer, kind))}


def _read(size: Size, take: Take, *, kind: str, **sizes: Any) -> tuple[nn.Module, Size]:
    """Return the layer, and the size of its output."""
    for name, value in sizes.items():
        least = 0 if name in {"below", "right"} else 1
        if type(value) is not int or value < least:
            raise ValueError(f"has {name} {value!r}, expected a whole number from {least} on")
    if kind in _READERS:
        return _READERS[kind](size, take, **sizes)
    if kind not in ACTIVATIONS:
        raise ValueError(f"has an unknown kind: {kind[:40]!r}")
    if sizes:
        raise ValueError(f"is an activation with {', '.join(sizes)}")
    return steady_activation(ACTIVATIONS[kind]), size


def _dense(size: Size, take: Take, *, ins: int, outs: int) -> tuple[nn.Module, Size]:
    _check_follows(f"{ins} columns", size, (ins,))
    weights = {"weight": take("weight", (outs, ins)), "bias": take("bias", (outs,))}
    return _filled(Dense(ins, outs, device="meta"), weights), (outs,)


def _gradients(size: Size, take: Take, *, height: int, width: int, channels: int, cell: int) -> tuple[nn.Module, Size]:
    pixels = height * width * channels
    _check_follows(f"{height} x {width} x {channels} columns", size, (pixels,))
    if cell > max(height, width):
        raise ValueError(f"has cells of {cell} pixels, larger than the picture")
    descriptor = Gradients(height, width, channels, cell)
    tensors = take("base", (pixels,)), take("offset", (descriptor.outs,)), take("factor", (descriptor.outs,))
    return WithDescriptor(descriptor, *tensors), (pixels + descriptor.outs,)


def _picture(size: Size, take: Take, *, height: int, width: int, channels: int) -> tuple[nn.Module, Size]:
    _check_follows(f"{height} x {width} x {channels} columns", size, (height * width * channels,))
    return ToPicture(height, width, channels), (height, width, channels)


def _conv(size: Size, take: Take, *, ins: int, outs: int) -> tuple[nn.Module, Size]:
    _check_follows(f"{ins} channels", size, (*size[:2], ins))
    weights = {"weight": take("weight", (outs, ins, KERNEL, KERNEL)), "bias": take("bias", (outs,))}
    height, width = (-(-side // STRIDE) for side in size[:2])
    return _filled(Conv(ins, outs, KERNEL, STRIDE, PADDING, device="meta"), weights), (height, width, outs)


def _deconv(size: Size, take: Take, *, ins: int, outs: int, below: int, right: int) -> tuple[nn.Module, Size]:
    _check_follows(f"{ins} channels", size, (*size[:2], ins))
    if max(below, right) >= STRIDE:
        raise ValueError(f"adds {below} and {right} to its sides, more than 1")
    weights = {"weight": take("weight", (ins, outs, KERNEL, KERNEL)), "bias": take("bias", (outs,))}
    layer = Deconv(ins, outs, KERNEL, STRIDE, PADDING, output_padding=(below, right), device="meta")
    height, width = (STRIDE * side - 1 + more for side, more in zip(size[:2], (below, right), strict=True))
    return _filled(layer, weights), (height, width, outs)


def _series(size: Size, take: Take, *, length: int, channels: int) -> tuple[nn.Module, Size]:
    _check_follows(f"{length} x {channels} columns", size, (length * channels,))
    return ToSeries(length, channels), (length, channels)


def _conv1d(size: Size, take: Take, *, ins: int, outs: int) -> tuple[nn.Module, Size]:
    _check_follows(f"series of {ins} channels", size, (size[0], ins))
    weights = {"weight": take("weight", (outs, ins, SERIES_KERNEL)), "bias": take("bias", (outs,))}
    layer = SeriesConv(ins, outs, SERIES_KERNEL, STRIDE, SERIES_PADDING, device="meta")
    return _filled(layer, weights), (-(-size[0] // STRIDE), outs)


def _deconv1d(size: Size, take: Take, *, ins: int, outs: int, right: int) -> tuple[nn.Module, Size]:
    _check_follows(f"series of {ins} channels", size, (size[0], ins))
    if right >= STRIDE:
        raise ValueError(f"adds {right} to its length, more than 1")
    weights = {"weight": take("weight", (ins, outs, SERIES_KERNEL)), "bias": take("bias", (outs,))}
    layer = SeriesDeconv(ins, outs, SERIES_KERNEL, STRIDE, SERIES_PADDING, output_padding=right, device="meta")
    return _filled(layer, weights), (STRIDE * size[0] - 1 + right, outs)


def _rows(size: Size, take: Take) -> tuple[nn.Module, Size]:
    if len(size) == 1:
        raise ValueError(f"needs pictures or series, not {_size_text(size)} columns")
    return ToRows(), (math.prod(size),)


_READERS: dict[str, Reader] = {
    "dense": _dense,
    "gradients": _gradients,
    "picture": _picture,
    "conv": _conv,
    "deconv": _deconv,
    "series": _series,
    "conv1d": _conv1d,
    "deconv1d": _deconv1d,
    "rows": _rows,
}


def _check_follows(needs: str, size: Size, required: Size) -> None:
    if size != required:
        raise ValueError(f"needs {needs}, its input has {_size_text(size)}")


def _filled(layer: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    layer.load_state_dict(weights, assign=True)
    return layer


def _prefixed(take: Take, prefix: str, name: str, shape: tuple[int, ...]) -> Tensor:
    return take(prefix + name, shape)


def _size_text(size: Size) -> str:
    return f"{size[0]}" if len(size) == 1 else " x ".join(map(str, size))
