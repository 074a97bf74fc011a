"""Overfitting and underfitting: the training and test errors by the number of rows and of epochs."""

from lookalike.lessons.picture import Curves, Panels, Series, by_epoch
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import adam, autoencoder, digits, error, fit, isolated, squared_error, trained

__all__ = ["errors", "errors_by_epoch", "experiment"]

ROWS = (25, 50, 100, 200, 400, 800, 1437)
STEPS, BATCH, RATE = 300, 64, 5e-3
FEW, EPOCHS = 50, 400


def experiment(seed: int = 0) -> Shown:
    """Train an autoencoder on more and more rows, on 50 rows epoch by epoch, and a model that is too small."""
    pairs = [errors(rows, 16, seed) for rows in ROWS]
    numbers: dict[str, float] = {}
    for rows, (seen, unseen) in zip(ROWS, pairs, strict=True):
        if rows in {ROWS[0], 200, ROWS[-1]}:
            numbers |= {
                f"latent 16, {rows:,} rows: training error": seen,
                f"latent 16, {rows:,} rows: test error": unseen,
            }
    small = errors(ROWS[-1], 1, seed)
    numbers |= {"latent 1, 1,437 rows: training error": small[0], "latent 1, 1,437 rows: test error": small[1]}
    seen_line, unseen_line = errors_by_epoch(seed)
    best = unseen_line.index(min(unseen_line))
    numbers |= {
        f"latent 4, {FEW} rows: epoch of the least test error": best + 1,
        "training error at that epoch": seen_line[best],
        "test error at that epoch": unseen_line[best],
        f"training error after {EPOCHS} epochs": seen_line[-1],
        f"test error after {EPOCHS} epochs": unseen_line[-1],
    }
    return Shown(numbers, Panels("Overfitting and underfitting", [_by_rows(pairs), _by_epoch(seen_line, unseen_line)]))


def errors(rows: int, latent: int, seed: int) -> tuple[float, float]:
    """The training and the test error of an autoencoder after about the same number of steps on `rows` rows."""
    data = digits(seed, rows)
    per_epoch = -(-rows // BATCH)
    with isolated(seed):
        model = trained(autoencoder(latent), data.train, data.train, epochs=STEPS // per_epoch, lr=RATE)
        return error(model, data.train, data.train), error(model, data.test, data.test)


def errors_by_epoch(seed: int) -> tuple[list[float], list[float]]:
    """The training and the test error after each epoch on few rows."""
    data = digits(seed, FEW)
    with isolated(seed):
        model = autoencoder(4)
        done = fit(model, adam(model, RATE), squared_error, data.train, data.train, epochs=EPOCHS)
        pairs = [(error(model, data.train, data.train), error(model, data.test, data.test)) for _ in done]
    return [seen for seen, _ in pairs], [unseen for _, unseen in pairs]


def _by_rows(pairs: list[tuple[float, float]]) -> Curves:
    lines: dict[str, Series] = {
        "training rows": (ROWS, [seen for seen, _ in pairs]),
        "test rows": (ROWS, [unseen for _, unseen in pairs]),
    }
    label = "rows to train on"
    return Curves("More rows close the gap", label, "mean squared error", lines, log_x=True, log_y=True)


def _by_epoch(seen: list[float], unseen: list[float]) -> Curves:
    lines = by_epoch({"training rows": seen, "test rows": unseen})
    best = {"the best epoch": float(unseen.index(min(unseen)) + 1)}
    return Curves(f"{FEW} rows, too many epochs", "epoch", "mean squared error", lines, log_y=True, marks=best)
