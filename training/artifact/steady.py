"""The batch-invariant layers of an exported encoder: on a CPU a row has the same result, bit for bit, in every batch.

A library for matrix products sums a row's products in an order that depends on the number of rows and threads. Here
the order of each product depends on neither, and every layer checks that when it is first used. A convolution is the
same product, with a row for each place in a picture or a series: the values around that place.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Conv", "Deconv", "Dense", "Product", "SeriesConv", "SeriesDeconv", "steady_activation", "whole_vectors"]

MOST = 64
"""Rows in one product."""
PANELS = 2
"""Groups of columns for few rows. MKL gives one thread to each of several products, and splits a single one."""
LEAST = 512
"""Least number of values in a product of one row: torch has a different implementation for very few values."""
ROUNDED = 8
"""oneDNN gets a multiple of this many rows: it takes milliseconds to prepare for each new number of rows."""
CHECKED = 16
"""Rows that are compared, each in products of several sizes."""

VECTORS = 32
"""A multiple of the number of values that torch's vectorized functions process at a time."""
SHARE = 32_768
"""Above this number of values, torch shares them among several threads."""

RowFunction = Callable[[Tensor], Tensor]
"""(n, ins) -> (n, outs), n > 1."""

_ONEDNN = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class Product:
    """rows @ weight.T + bias in float32 on a CPU, from a copy of the weights."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: (outs, ins); bias: (outs,)."""
        self.outs, ins = weight.shape
        width = max(-(-self.outs // PANELS), LEAST // ins + 1)
        self._weight = weight.new_zeros(ins, PANELS * width)
        self._weight[:, : self.outs] = weight.T
        self._bias = bias.new_zeros(PANELS * width)
        self._bias[: self.outs] = bias
        self._panels = self._weight.view(ins, PANELS, width).transpose(0, 1).contiguous()  # (panels, ins, width)
        self._panel_bias = self._bias.view(PANELS, 1, width)
        self._ordered: Tensor | None = None
        self._multiply: RowFunction = self._in_blocks
        self._is_plain = self._is_like_panels()
        if not self._is_steady() and _ONEDNN:
            self._ordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
            self._multiply = self._by_onednn
        if not self._is_steady():
            self._ordered, self._multiply = None, self._in_pairs

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, ins) -> (n, outs), contiguous."""
        count = rows.shape[0]
        if count > 1:
            return self._multiply(rows)
        return self._multiply(torch.cat([rows, rows]))[:1] if count else rows.new_empty(0, self.outs)

    def _in_blocks(self, rows: Tensor) -> Tensor:
        """By MKL, at most MOST rows at a time: the fastest for few rows."""
        count = rows.shape[0]
        if count > MOST:
            blocks = -(-count // MOST)
            return self._split(rows, blocks, -(-count // blocks))
        if self._is_plain and torch.get_num_threads() == 1:
            return self._cut(torch.addmm(self._bias, rows, self._weight))
        return self._in_panels(rows)

    def _in_panels(self, rows: Tensor) -> Tensor:
        """With one thread per panel."""
        result = torch.baddbmm(self._panel_bias, rows.expand(PANELS, -1, -1), self._panels)  # (panels, n, width)
        return self._cut(torch.cat(result.unbind(), 1))

    def _is_like_panels(self) -> bool:
        """Whether a plain product, which is faster, has the same results with one thread."""
        if torch.get_num_threads() > 1:
            return False
        rows = self._examples(MOST)
        plain = (torch.addmm(self._bias, rows[:count], self._weight) for count in (2, 3, 5, 8, CHECKED, MOST))
        panels = self._in_panels(rows)
        return all(torch.equal(self._cut(result), panels[: len(result)]) for result in plain)

    def _examples(self, count: int) -> Tensor:
        """(count, ins), always the same."""
        return torch.randn(count, len(self._weight), generator=torch.Generator().manual_seed(0))

    def _split(self, rows: Tensor, blocks: int, size: int) -> Tensor:
        filled = nn.functional.pad(rows, (0, 0, 0, blocks * size - len(rows)))
        weight = self._weight.expand(blocks, *self._weight.shape)
        result = torch.baddbmm(self._bias, filled.view(blocks, size, -1), weight)  # (blocks, size, outs and more)
        return self._cut(result.view(blocks * size, -1)[: len(rows)])

    def _cut(self, result: Tensor) -> Tensor:
        """(n, outs and padding) -> (n, outs), contiguous."""
        return result if result.shape[1] == self.outs else result[:, : self.outs].contiguous()

    def _by_onednn(self, rows: Tensor) -> Tensor:
        """By oneDNN: as fast for many rows, and for processors on which the order of MKL varies."""
        filled = nn.functional.pad(rows, (0, 0, 0, -len(rows) % ROUNDED))
        bias = self._bias[: self.outs]
        result: Tensor = torch.ops.mkldnn._linear_pointwise.default(filled, self._ordered, bias, "none", [], "")
        return result[: len(rows)]

    def _in_pairs(self, rows: Tensor) -> Tensor:
        """Always by products of one shape: slow, but correct even if the library's order depends on the shape."""
        return self._split(rows, max(2, -(-len(rows) // 2)), 2)

    def _is_steady(self) -> bool:
        """Whether rows have the same results in pairs, in a block of each size, and in several blocks."""
        few = self._examples(CHECKED)
        pairs = torch.cat([self._multiply(few[n : n + 2]) for n in range(0, CHECKED, 2)])
        many = few.repeat(2 * MOST // CHECKED + 1, 1)
        starts = all(torch.equal(self._multiply(few[:count]), pairs[:count]) for count in (3, 5, 8, CHECKED))
        ends = (self._multiply(many[:count])[-CHECKED:] for count in (MOST // 2, MOST, len(many)))
        return starts and all(torch.equal(end, pairs) for end in ends)


def whole_vectors(step: RowFunction, values: Tensor) -> Tensor:
    """Apply `step`, a function of single values, to dense values of any shape: (...) -> (...).

    torch has two versions of such a function, whose last bits differ: one for vectors, and one for the rest at the
    end of a thread's share. So each share is padded to whole vectors.
    """
    if values.is_cuda:
        return step(values)
    if values.dim() > 2:  # pictures or series, whose channels are adjacent: torch treats those differently, too
        rows = whole_vectors(step, values.movedim(1, -1).flatten(1))
        return rows.view(len(values), *values.shape[2:], values.shape[1]).movedim(-1, 1)
    count = values.numel()
    threads = 1 if count <= SHARE else min(torch.get_num_threads(), -(-count // SHARE))
    more = -count % (VECTORS * threads)
    if not more:
        return step(values)
    return step(nn.functional.pad(values.reshape(-1), (0, more)))[:count].view(values.shape)


def steady_activation(kind: type[nn.Module]) -> nn.Module:
    """Return a batch-invariant activation of that kind."""
    return _STEADY.get(kind, kind)()


class _SiLU(nn.SiLU):
    def forward(self, values: Tensor) -> Tensor:
        return whole_vectors(nn.functional.silu, values)


class _GELU(nn.GELU):
    def forward(self, values: Tensor) -> Tensor:
        return whole_vectors(nn.functional.gelu, values)


class _Sigmoid(nn.Sigmoid):
    def forward(self, values: Tensor) -> Tensor:
        return whole_vectors(torch.sigmoid, values)


_STEADY: dict[type[nn.Module], type[nn.Module]] = {nn.SiLU: _SiLU, nn.GELU: _GELU, nn.Sigmoid: _Sigmoid}


class Dense(nn.Linear):
    """A linear layer for inference only."""

    _cached: tuple[Tensor, Tensor, int, Product] | None = None
    """Cached: reading the module's weights takes as long as multiplying a row by a few of them."""

    def forward(self, rows: Tensor) -> Tensor:
        if rows.is_cuda:
            return super().forward(rows)
        cached = self._cached
        if cached is None or cached[0]._version + cached[1]._version != cached[2]:
            weight, bias = self.weight, self.bias
            cached = self._cached = weight, bias, weight._version + bias._version, Product(weight, bias)
        return cached[3](rows)  # (batch, ins) -> (batch, outs)


class Conv(nn.Conv2d):
    """A convolution for inference only, with a 3 x 3 kernel, a stride of 2 and a padding of 1."""

    _cached: tuple[int, Product] | None = None

    def forward(self, pictures: Tensor) -> Tensor:
        if pictures.is_cuda:
            return super().forward(pictures)
        self._cached = _fresh(self._cached, self, self._matrix)
        padded = nn.functional.pad(pictures.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (batch, h + 2, w + 2, ins)
        around = padded.unfold(1, 3, 2).unfold(2, 3, 2).permute(0, 1, 2, 4, 5, 3)  # (batch, outh, outw, 3, 3, ins)
        result = self._cached[1](around.reshape(-1, 9 * self.in_channels))  # (batch * outh * outw, outs)
        return result.reshape(*around.shape[:3], -1).permute(0, 3, 1, 2)  # (batch, outs, outh, outw)

    def _matrix(self) -> tuple[Tensor, Tensor]:
        return self.weight.permute(0, 2, 3, 1).reshape(self.out_channels, -1), _bias(self)


class Deconv(nn.ConvTranspose2d):
    """A transposed convolution for inference only, with the kernel and the stride of `Conv`."""

    _cached: tuple[int, Product] | None = None

    def forward(self, pictures: Tensor, output_size: list[int] | None = None) -> Tensor:
        if pictures.is_cuda:
            return super().forward(pictures, output_size)
        self._cached = _fresh(self._cached, self, self._matrix)
        places = pictures.permute(0, 2, 3, 1)  # (batch, h, w, ins)
        count, height, width, ins = places.shape
        result = self._cached[1](places.reshape(-1, ins)).view(count, height, width, 3, 3, -1)  # (..., 3, 3, outs)
        whole = _bias(self).repeat(count, 2 * height + 1, 2 * width + 1, 1)  # (batch, 2 h + 1, 2 w + 1, outs)
        for down in range(3):
            for right in range(3):
                whole[:, down : down + 2 * height : 2, right : right + 2 * width : 2] += result[:, :, :, down, right]
        extra_height, extra_width = self.output_padding
        inner = whole[:, 1 : 2 * height + extra_height, 1 : 2 * width + extra_width]  # (batch, outh, outw, outs)
        return inner.contiguous().permute(0, 3, 1, 2)

    def _matrix(self) -> tuple[Tensor, Tensor]:
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, self.in_channels)  # (3 * 3 * outs, ins)
        return weight, weight.new_zeros(len(weight))


class SeriesConv(nn.Conv1d):
    """A convolution of series for inference only, with a kernel of 5, a stride of 2 and a padding of 2."""

    _cached: tuple[int, Product] | None = None

    def forward(self, series: Tensor) -> Tensor:
        if series.is_cuda:
            return super().forward(series)
        self._cached = _fresh(self._cached, self, self._matrix)
        padded = nn.functional.pad(series.permute(0, 2, 1), (0, 0, 2, 2))  # (batch, l + 4, ins)
        around = padded.unfold(1, 5, 2).permute(0, 1, 3, 2)  # (batch, outl, 5, ins)
        result = self._cached[1](around.reshape(-1, 5 * self.in_channels))  # (batch * outl, outs)
        return result.reshape(*around.shape[:2], -1).permute(0, 2, 1)  # (batch, outs, outl)

    def _matrix(self) -> tuple[Tensor, Tensor]:
        return self.weight.permute(0, 2, 1).reshape(self.out_channels, -1), _bias(self)


class SeriesDeconv(nn.ConvTranspose1d):
    """A transposed convolution for inference only, with the kernel and the stride of `SeriesConv`."""

    _cached: tuple[int, Product] | None = None

    def forward(self, series: Tensor, output_size: list[int] | None = None) -> Tensor:
        if series.is_cuda:
            return super().forward(series, output_size)
        self._cached = _fresh(self._cached, self, self._matrix)
        places = series.permute(0, 2, 1)  # (batch, l, ins)
        count, length, ins = places.shape
        result = self._cached[1](places.reshape(-1, ins)).view(count, length, 5, -1)  # (batch, l, 5, outs)
        whole = _bias(self).repeat(count, 2 * length + 3, 1)  # (batch, 2 l + 3, outs)
        for right in range(5):
            whole[:, right : right + 2 * length : 2] += result[:, :, right]
        inner = whole[:, 2 : 2 * length + 1 + self.output_padding[0]]  # (batch, outl, outs)
        return inner.contiguous().permute(0, 2, 1)

    def _matrix(self) -> tuple[Tensor, Tensor]:
        weight = self.weight.permute(2, 1, 0).reshape(-1, self.in_channels)  # (5 * outs, ins)
        return weight, weight.new_zeros(len(weight))


_Convolution = Conv | Deconv | SeriesConv | SeriesDeconv


def _bias(layer: _Convolution) -> Tensor:
    return layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias


def _fresh(
    cached: tuple[int, Product] | None, layer: _Convolution, matrix: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[int, Product]:
    """The product of a layer's weights; rebuilt after the weights were changed in place."""
    number = layer.weight._version + (0 if layer.bias is None else layer.bias._version)
    return cached if cached and cached[0] == number else (number, Product(*matrix()))
