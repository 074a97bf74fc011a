# %% [markdown]
# # Explore a version
#
# A *version* is what Lookalike serves: an encoder, an index of embeddings, the items' ids and payloads, and the
# evidence of its quality. This notebook opens a version and shows four views of it:
#
# 1. **Evidence**: the measurements in its manifest, and the history of its training.
# 2. **A map**: the embeddings of the items, projected onto two dimensions.
# 3. **Neighbors**: the hits for an item, for a row that is not an item, and for that row with noise.
# 4. **Reconstructions**: what passes through the bottleneck, and which rows have the largest error.
#
# Run it from top to bottom. VS Code opens this file directly, and Jupyter opens it with jupytext; to convert it to an
# ordinary notebook, run `jupytext --to ipynb notebooks/explore.py`.

# %%
import os
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from lookalike.index.errors import StoreError
from lookalike.index.evaluation.evaluate import evaluate
from lookalike.index.versions.build import build
from lookalike.index.versions.embed import suited
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.config import load_config
from lookalike.training.evaluation.judge import add_noise
from lookalike.training.fit.job import train
from lookalike.training.rows import Rows, open_rows, read_sample
from lookalike.training.rows.builtin import BUILTIN

# %% [markdown]
# ## Which version?
#
# To explore your own data, change these three lines or set the environment variables. `make run` creates the store
# `stores/digits`. `DATA` is the data that the version was built from; if empty, the manifest names it. `QUERIES` are
# rows that are not items; if empty, they are the test part of a built-in set, or for other data the items themselves.

# %%
STORE = os.environ.get("LOOKALIKE_STORE", "stores/digits")
DATA = os.environ.get("LOOKALIKE_DATA", "")
QUERIES = os.environ.get("LOOKALIKE_QUERIES", "")

if Path.cwd().name == "notebooks":  # Jupyter starts in the notebook's folder; the paths above are relative to the root
    os.chdir("..")

# %% [markdown]
# If the store does not exist, the next cell makes a small store in a temporary folder, with the same three calls as
# `lookalike train`, `lookalike build` and `lookalike promote`. It trains for only 30 epochs, which takes seconds;
# `make run` trains until the validation loss stops improving.


# %%
def open_or_make(store: Store) -> Version:
    """Open the champion of the store, or of a small store that is made here."""
    try:
        return store.open_champion()
    except StoreError:
        print(f"No version in {store.folder}: making a small store.")
    folder = Path(scratch.name)
    digits = open_rows("digits")
    train(digits, load_config(None, ["fit.epochs=30"]), folder / "run")
    small = Store(folder / "store")
    small.promote(build(digits, folder / "run", small))
    return small.open_champion()


scratch = tempfile.TemporaryDirectory(prefix="lookalike-")
version = open_or_make(Store(Path(STORE)))
encoder = version.encoder  # of a table, it finds its columns by name
rows = suited(open_rows(DATA or version.manifest.data.name, spec=encoder.inputs), encoder)
others = QUERIES or (f"{rows.name}:test" if rows.name in BUILTIN else rows.name)
queries = suited(open_rows(others, spec=encoder.inputs), encoder)
shape = version.encoder.input_shape
print(f"version {version.number}: {len(version.items):,} items of {rows.name}, each of shape {shape}")

# %% [markdown]
# ## 1. Evidence
#
# Every version was measured when it was built, and its manifest contains the figures. *Recall@10* is the share of the
# ten true nearest neighbors that the index finds; exact search over the same vectors finds the true neighbors.
# *Latency* is the median of one query at a time on one thread. The right column is measured now, on this machine. If
# the rows have labels, *precision@10* is the share of a query's ten hits that have its label. The training does not
# use labels.

# %%
then = version.manifest.evidence
now = evaluate(version, queries if queries.name != rows.name else None)
precision = "no labels" if now.precision is None else f"{now.precision:.3f}"

print(f"{'':26}{'at build':>12}{'now':>12}")
print(f"{'recall@10':26}{then.recall:>12.4f}{now.measured.recall:>12.4f}")
print(f"{'latency, µs per query':26}{then.latency_us:>12.0f}{now.measured.latency_us:>12.0f}")
print(f"{'queries':26}{then.queries:>12,}{now.measured.queries:>12,}")
print(f"{'label precision@10':26}{'':>12}{precision:>12}")
print(f"{'index':26}{version.index.spec.key:>12}\n{'metric':26}{version.metric:>12}")
print(f"{'values: row → embedding':26}{version.encoder.width:>6} → {version.encoder.latent_dim}")

# %% [markdown]
# The encoder artifact contains the history of its training. In a good run, both curves fall and stay together. If the
# validation curve rises while the training curve still falls, the model overfits; if both still fall at the end, it
# needs more epochs. A *denoising* encoder has to guess the values that the noise has hidden, in training and in
# validation, so its curves level off well above zero.

# %%
history = version.encoder.header["history"]
best = version.encoder.header["best_epoch"]
epochs = [epoch["number"] for epoch in history]

figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(epochs, [epoch["train_loss"] for epoch in history], color="tab:blue", label="training")
axis.plot(epochs, [epoch["validation_loss"] for epoch in history], color="tab:orange", label="validation")
axis.axvline(best, color="0.6", linestyle=":", label=f"best epoch, {best}: its weights were kept")
axis.set(xlabel="epoch", ylabel="loss", title="How the training went")
axis.set_ylim(bottom=0)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## 2. A map of the latent space
#
# An embedding has too many numbers to draw. Principal component analysis (PCA) keeps the two directions in which the
# embeddings vary most, and drops the others, like a shadow on a wall. The title shows how much of the variance remains.
# Points that are apart on the map are apart in the latent space; points that overlap on the map may still be far apart
# in a direction that the map does not show.
#
# The colors are the labels. The training did not use them, so the autoencoder found any separation of colors by itself.

# %%
chosen = np.random.default_rng(0).permutation(len(version.items))[:5_000]
embeddings = version.embeddings.at(chosen)  # (points, latent)
labels = [version.items.payload_at(int(position)).get("label") for position in chosen]
pca = PCA(2, random_state=0)
points = pca.fit_transform(embeddings)  # (points, 2)


def draw_map(axis: Axes, points: NDArray[np.float32], labels: list[Any]) -> None:
    """Draw a scatter plot with one color per label; the label's name is at the median of its points."""
    kinds = sorted({label for label in labels if label is not None}, key=str)
    if not 1 < len(kinds) <= 20:
        axis.scatter(points[:, 0], points[:, 1], s=6, alpha=0.5, color="tab:blue", linewidths=0)
        return
    colours = plt.get_cmap("tab10" if len(kinds) <= 10 else "tab20")
    for number, kind in enumerate(kinds):
        own = points[[label == kind for label in labels]]  # (points of this label, 2)
        axis.scatter(own[:, 0], own[:, 1], s=8, alpha=0.55, color=colours(number), linewidths=0)
        middle = np.median(own, axis=0)  # (2,)
        axis.text(
            middle[0],
            middle[1],
            str(kind),
            ha="center",
            va="center",
            fontweight="bold",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colours(number)},
        )


figure, axis = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
draw_map(axis, points, labels)
kept = pca.explained_variance_ratio_.sum()
axis.set(
    title=f"{len(points):,} items of {rows.name}; this plane keeps {kept:.0%} of their variance",
    xlabel="first principal component",
    ylabel="second principal component",
    aspect="equal",
)
plt.show()

# %% [markdown]
# ## 3. Neighbors
#
# The next cell finds the nearest other items of a few items, one item for each label if there are labels. The query is
# on the left, in a frame; its hits follow, best first, each with its id and score. With the metric *cosine*, a score of
# 1 means the same direction, and 0 means nothing in common. With *l2*, the score is a distance: smaller is nearer.
#
# A version contains embeddings and payloads, but not the rows, so the pictures are read from `DATA`, in one pass and in
# chunks: only the rows to draw are kept in memory.

# %%
HITS = 8
pool, _ = read_sample(queries, 200, seed=1)  # (rows, width), to ask with
low, high = float(pool.min()), float(max(pool.max(), pool.min() + 1e-6))  # one scale for all pictures


def read_by_id(rows: Rows, wanted: set[str]) -> dict[str, NDArray[np.float32]]:
    """Read the rows with these ids, each (width,)."""
    return {
        name: row
        for chunk in rows.chunks()
        for name, row in zip(chunk.ids, chunk.inputs, strict=True)
        if name in wanted
    }


def draw_row(axis: Axes, row: NDArray[np.float32]) -> None:
    """Draw a picture if the row has the shape of a gray or color picture; else a curve."""
    axis.set(xticks=[], yticks=[])
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3):
        axis.imshow((row.reshape(shape).clip(low, high) - low) / (high - low), cmap="gray_r", vmin=0, vmax=1)
    else:
        axis.plot(row, linewidth=1)
        axis.set_ylim(low, high)


def caption(axis: Axes, text: str) -> None:
    axis.set_xlabel(text, fontsize=8, labelpad=2)


def frame(axis: Axes) -> None:
    """Draw a frame around a query."""
    for edge in axis.spines.values():
        edge.set(color="tab:red", linewidth=2.5)


def draw_neighbors(
    asked: NDArray[np.float32], names: list[str], scores: NDArray[np.float32], positions: NDArray[np.int64]
) -> None:
    """Draw one line for each row of `asked`, (n, width): the row in a frame, then its hits, (n, hits)."""
    hits = [[version.items.id_at(int(place)) for place in line if place >= 0] for line in positions]
    pictures = read_by_id(rows, {name for line in hits for name in line})
    columns = 1 + positions.shape[1]
    _, axes = plt.subplots(
        len(asked), columns, figsize=(columns, 1.25 * len(asked)), squeeze=False, layout="constrained"
    )
    for line, query, name, found, values in zip(axes, asked, names, hits, scores, strict=True):
        draw_row(line[0], query)
        caption(line[0], name)
        frame(line[0])
        for axis, hit, score in zip(line[1:], found, values, strict=False):
            if hit in pictures:
                draw_row(axis, pictures[hit])
            caption(axis, f"{hit}\n{score:.3f}")
        for axis in line[1 + len(found) :]:
            axis.set_axis_off()
    plt.show()


# %%
first_of = {label: int(position) for position, label in zip(chosen[::-1], labels[::-1], strict=True)}
some = [first_of[label] for label in sorted(first_of, key=str)] if 1 < len(first_of) <= 20 else chosen[:6].tolist()
names = [version.items.id_at(position) for position in some]
found = read_by_id(rows, set(names))
hits = version.searcher.search_items(names, HITS)
pictures = np.stack([found[name] for name in names])
draw_neighbors(pictures, [f"item {name}" for name in names], hits.scores, hits.positions)

# %% [markdown]
# ### Rows that are not items, and the same rows with noise
#
# A real query is usually a row that is not in the index. The encoder first embeds the row, exactly as `POST /search`
# with `inputs` does. Each query appears twice here: unchanged, and with Gaussian noise. A denoising autoencoder has
# learned to ignore noise, so both should find nearly the same items.

# %%
clean = pool[:4]
noisy = add_noise(clean, version.encoder.preprocess)  # the same shape
pairs = np.stack([clean, noisy], axis=1).reshape(-1, clean.shape[1])  # (rows, 2, width) -> (2 rows, width)
scores, positions = version.index.search(version.embed(pairs), HITS)
draw_neighbors(pairs, ["unchanged", "with noise"] * len(clean), scores, positions)

both = [len({*one} & {*other}) for one, other in zip(positions[::2].tolist(), positions[1::2].tolist(), strict=True)]
print(f"hits in common, of {positions.shape[1]}: {', '.join(map(str, both))}")

# %% [markdown]
# ## 4. Reconstructions
#
# The decoder, which the service does not need, turns an embedding back into a row. The reconstruction shows what the
# embedding contains about the row; the rest was treated as noise, or did not fit through the bottleneck. The row is
# above and its reconstruction below, with the root of the mean squared error in the unit of the data.
#
# The left half shows the first rows. The right half shows the rows with the largest errors: rows that are unlike the
# training data, badly recorded, or rare. So the error is a simple detector of anomalies.

# %%
restored = version.autoencoder.reconstruct(pool)  # (rows, width)
errors = np.sqrt(np.nanmean((pool - restored) ** 2, axis=1))  # (rows,)
shown = [*range(6), *np.argsort(errors)[::-1][:6]]

figure, axes = plt.subplots(2, len(shown), figsize=(1.1 * len(shown), 2.9), layout="constrained", squeeze=False)
for column, number in enumerate(shown):
    draw_row(axes[0, column], pool[number])
    draw_row(axes[1, column], restored[number])
    caption(axes[1, column], f"{errors[number]:.2f}")
    if column >= 6:
        frame(axes[0, column])
axes[0, 0].set_ylabel("row")
axes[1, 0].set_ylabel("reconstruction")
figure.suptitle(f"Row above, reconstruction below; framed: the largest errors among {len(pool)} rows", fontsize=10)
plt.show()

# %% [markdown]
# ## Next steps
#
# - **A poor map or poor neighbors?** Compare with a run that has more epochs or a wider bottleneck:
#   `lookalike train digits --run runs/wide --set model.latent_dim=32`, then `lookalike build`, and set `STORE` above.
# - **Your own data**: `lookalike train your.npy --run runs/mine`. The [README](../README.md) lists the supported data.
# - **Search over HTTP**: `lookalike serve --store stores/digits` returns the same hits as the cells above.
