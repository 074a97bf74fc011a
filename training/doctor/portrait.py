"""The view of a step: the rows that the model receives, its output, and where the loss pulls the output.

The gradient by the output says what the loss wants, without knowing the loss: minus the gradient points from the output
to the target. If it follows the output instead of opposing it, the loss is maximized; if it has nothing to do with the
row of the input, the target belongs to another row.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookalike.training.doctor.plain import number, numbers
from lookalike.training.rows import fingerprints

__all__ = ["SKETCH", "Portrait", "foreign", "sketch_of"]

COLUMNS = 64
"""At most so many columns, evenly spaced, are compared."""
SKETCH = 16
MOST_JUDGED = 1 << 22
KEPT_ROWS = 16
SCALE_VARIES = 1.5


class Portrait:
    """Measures the rows, the outputs and the output gradients of the looks, and the rows that are evaluated.

    Attributes:
        lists: what each look, or each step, measured, as tensors.
    """

    def __init__(self, epochs: int = 0) -> None:
        self.epochs = epochs
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.lists: dict[str, list[Tensor]] = {
            name: [] for name in ("ins", "outs", "means", "within", "pull", "silent", "kept_rows", "count")
        }
        self.sums: list[Tensor] = []
        self.seen: tuple[Tensor, Tensor] | None = None
        self.judged: list[Tensor] = []
        self.judged_values = 0
        self.judged_sums: list[Tensor] = []

    def see(self, rows: Any, output: Tensor, *, look: bool) -> None:
        """Note a forward pass in training; its sums show later where a NaN came first."""
        rows = rows if isinstance(rows, Tensor) and rows.is_floating_point() else output.new_zeros(1, 1)
        with torch.no_grad():
            self.sums.append(torch.stack([rows.detach().float().sum(), output.detach().float().sum()]))
        self.seen = (rows.detach(), output.detach()) if look and rows.ndim > 1 and len(rows) > 1 else None

    def step(self) -> None:
        """Note the end of a step."""
        if self.sums:
            ins, outs = torch.stack(self.sums).sum(dim=0)
            self.lists["ins"].append(ins)
            self.lists["outs"].append(outs)
            self.sums = []

    @torch.no_grad()
    def pulled(self, gradient: Tensor) -> None:
        """Note the loss's gradient by the output that was seen last."""
        if self.seen is None:
            return
        rows, output = (part.float().flatten(1) for part in self.seen)
        self.seen = None
        down = -gradient.detach().float().flatten(1)
        silent = [(down == 0).all(dim=dim).double().mean() for dim in (0, 1)]  # columns, rows
        self.lists["silent"].append(torch.stack(silent).to(rows.device))
        some = _some(rows)
        self.lists["count"].append(some.new_tensor(len(some)))
        self.lists["means"].append(some.mean(dim=0))
        self.lists["within"].append(some.var(dim=0, correction=0))
        pick = torch.arange(KEPT_ROWS, device=rows.device) % len(some)
        self.lists["kept_rows"].append(some[pick])
        self.lists["pull"].append(_pull(rows, output, down))

    @torch.no_grad()
    def judge(self, rows: Any, output: Tensor) -> None:
        """Note rows that are evaluated without a step."""
        if not isinstance(rows, Tensor) or not rows.is_floating_point() or rows.ndim < 2:
            return
        self.judged_sums.append(torch.stack([rows.float().sum(), output.float().sum()]))
        if self.epochs == 0 and self.judged_values < MOST_JUDGED:
            self.judged_values += rows.numel()
            self.judged.append(rows.detach().float().flatten(1).cpu())

    def signs(self, losses: Tensor) -> dict[str, Any]:
        """Return the signs of the epoch as plain JSON, and begin the next one.

        pull: how the output's descent follows the own row, apart from the output; how it follows the output (negative
            if it leads to a target); how alike its columns are to those of the rows; how it follows other rows; and the
            mean correlation between its columns, and between those of the rows.
        silent: the shares of output columns and of rows in a batch for which the loss has no gradient.
        batches: the variance between the means of batches, relative to that of shuffled rows; the variance within
            a batch relative to the rows'; whether all batches are the same; the rows of a batch.
        nan: the first step without a finite loss, and whether its rows and its output were finite; or None.
        judged: the sketch of the rows that were evaluated, in the first epoch; judged_nan: as `nan`.
        """
        lists = {name: torch.stack(part).cpu() for name, part in self.lists.items() if part}
        signs = {
            "pull": numbers(_mean_pull(lists["pull"])) if "pull" in lists else None,
            "silent": numbers(lists["silent"].min(dim=0).values) if "silent" in lists else None,
            "batches": _batches(lists) if len(lists.get("means", [])) > 2 else None,
            "nan": _first_nan(losses, lists),
            "judged_nan": _judged_nan(self.judged_sums),
            "judged": self._judged(lists.get("kept_rows")),
        }
        self.epochs += 1
        self.reset()
        return signs

    def _judged(self, kept: Tensor | None) -> dict[str, Any] | None:
        if self.epochs or not self.judged or len({part.shape[1] for part in self.judged}) > 1:
            return None
        rows = torch.cat(self.judged)
        return {"rows": len(rows), "sketch": sketch_of(rows), "foreign": _foreign(kept, _some(rows))}


def sketch_of(rows: Tensor) -> list[int]:
    """Return the least fingerprints of (n, width) rows: two sets of rows with the same sketch are the same set."""
    prints = np.unique(fingerprints(rows.float().flatten(1).cpu().numpy()))
    return [int(one) for one in prints[:SKETCH]]


def _some(rows: Tensor) -> Tensor:
    """(n, width) -> (n, at most COLUMNS) evenly spaced columns."""
    return rows[:, :: max(1, -(-rows.shape[1] // COLUMNS))]


def _pull(rows: Tensor, output: Tensor, down: Tensor) -> Tensor:
    """(6,): see `Portrait.signs`; NaN if the output is not a reconstruction."""
    if rows.shape != output.shape:
        return rows.new_full((6,), torch.nan)
    x, y, d = (part - part.mean(dim=0) for part in (_some(rows), _some(output), _some(down)))
    own, toward = _partial(x, y, d), _partial(y, x, d)
    other = torch.stack([_partial(x.roll(shift, 0), y, d) for shift in (1, 2, -1)]).amax()
    shapes = _shape(d), _shape(x)
    return torch.stack([own, toward, _cosine(*shapes), other, *(shape.square().mean().sqrt() for shape in shapes)])


def _partial(x: Tensor, given: Tensor, d: Tensor) -> Tensor:
    """The cosine of d and x without their parts along `given`."""
    share = given.square().sum().clamp_min(1e-30)
    x = x - given * ((x * given).sum() / share)
    return _cosine(x, d - given * ((d * given).sum() / share))


def _shape(values: Tensor) -> Tensor:
    """The correlations between columns: what distinguishes rows of the data from noise."""
    scaled = values / values.square().sum(dim=0).sqrt().clamp_min(1e-20)
    products = scaled.T @ scaled
    apart: Tensor = products - products.diag().diag()
    return apart


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    sizes = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    cosine: Tensor = (a * b).sum() / sizes.clamp_min(1e-30)
    return cosine


def _mean_pull(pulls: Tensor) -> Tensor:
    """Over the first five looks: later, an output explains most of its row."""
    return pulls[:5].nanmean(dim=0)


def _batches(lists: dict[str, Tensor]) -> dict[str, Any]:
    means, within, rows = lists["means"].double(), lists["within"].double(), lists["kept_rows"]
    between = means.var(dim=0)  # (columns,)
    whole = within.mean(dim=0) + between
    useful = whole > 1e-12 * whole.max().clamp_min(1e-30)
    ratio = between[useful].sum() / whole[useful].sum().clamp_min(1e-30)
    return {
        "between": number(ratio),
        "within": number((within.sum(dim=1) / whole.sum().clamp_min(1e-30)).median()),
        "same": bool((rows == rows[0]).all()),
        "rows": int(lists["count"].median()),
    }


def _first_nan(losses: Tensor, lists: dict[str, Tensor]) -> dict[str, Any] | None:
    bad = (~torch.isfinite(losses)).nonzero().flatten()
    if not len(bad):
        return None
    first = int(bad[0])
    before = losses[:first]
    grew = float(before.max() / before.median().abs().clamp_min(1e-30)) if first else 1.0
    if len(lists.get("ins", [])) <= first:
        return {"step": first, "grew": number(grew)}
    finite = {name: bool(torch.isfinite(lists[key][first])) for name, key in (("rows", "ins"), ("output", "outs"))}
    return {"step": first, "grew": number(grew), **finite}


def _judged_nan(sums: list[Tensor]) -> dict[str, bool] | None:
    if not sums:
        return None
    finite = torch.isfinite(torch.stack(sums)).all(dim=0)
    return None if bool(finite.all()) else {"rows": bool(finite[0]), "output": bool(finite[1])}


def _foreign(kept: Tensor | None, judged: Tensor) -> float | None:
    """Return how much worse the main directions of the training rows describe the evaluated rows than other such rows.

    Half of the kept rows give the directions, the other half the reference.
    """
    if kept is None or kept.shape[-1] != judged.shape[1]:
        return None
    rows = torch.unique(kept.flatten(0, 1), dim=0).double()
    return foreign(rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))], judged.double())


def foreign(rows: Tensor, others: Tensor) -> float | None:
    """Return the error of `others` over that of held-back `rows` in the main directions of the rest of `rows`.

    (n, columns) and (m, columns) float64, `rows` in random order. None with fewer than 40 or 10 rows.
    """
    if len(rows) < 40 or len(others) < 10 or not bool(torch.isfinite(rows).all() & torch.isfinite(others).all()):
        return None
    first, second = rows[::2], rows[1::2]
    mean, scale = first.mean(dim=0), first.std(dim=0)
    useful = scale > 1e-6 * scale.max().clamp_min(1e-30)
    first, second, others = ((part - mean)[:, useful] / scale[useful] for part in (first, second, others))
    first, second, others = (part.clamp(-6, 6) for part in (first, second, others))
    values, directions = torch.linalg.eigh(first.T @ first)
    count = max(1, int((values.flip(0).cumsum(0) < 0.8 * values.sum()).sum()))
    main = directions[:, -count:]
    left = [(part - part @ main @ main.T).square().mean() for part in (second, others)]
    size = [part.square().mean() for part in (second, others)]
    ratios = [left[1] / left[0].clamp_min(1e-12), size[1] / (SCALE_VARIES * size[0].clamp_min(1e-12))]
    return number(max(ratios))
