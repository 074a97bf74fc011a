"""What can be set on a FAISS index when it is searched, whatever it is made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss

from training.errors import ConfigError

__all__ = ["Knobs"]

GRID = (*range(1, 17), 18, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
ROUNDS = 20
"""Of k-means. FAISS's own 10 leave recall at as many lists a third of a point lower."""
FACTORS = (2, 4, 8, 16)
"""Of how many candidates the exact refinement chooses, as a multiple of k."""


@dataclass(frozen=True)
class _Knob:
    """One parameter: the object that has it, its name there, and the values worth a try, rising."""

    holder: Any
    attribute: str
    values: tuple[int, ...]


class Knobs:
    """The search parameters of an index, by name: nprobe, efSearch, k_factor."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index
        self._knobs: dict[str, _Knob] = {}
        self.lists = 0
        """How many lists the vectors are parted into; 0 where they are not."""
        self._walk(index)
        self.is_graph = "efSearch" in self._knobs

    def grids(self) -> dict[str, tuple[int, ...]]:
        """The values worth a try, rising, by name; the outermost first."""
        return {name: knob.values for name, knob in self._knobs.items()}

    def set(self, text: str) -> None:
        """Set what "nprobe=8,k_factor=4" says.

        Raises:
            ConfigError: no such parameter, or a value below 1.
        """
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in self._knobs or not value.isdecimal() or not 1 <= int(value) < 1 << 31:
                known = ", ".join(f"{known}=N" for known in self._knobs) or "nothing"
                raise ConfigError("search parameters", expected=known, found=part)
            knob = self._knobs[name]
            setattr(knob.holder, knob.attribute, int(value))

    def selecting(self, selector: faiss.IDSelector, widen: float) -> Any:
        """FAISS's parameters for a search among what the selector lets pass, looking `widen` times as far.

        Returns:
            None where an index of this kind takes none.
        """
        return _selecting(self._index, selector, widen)

    def _walk(self, index: faiss.Index) -> None:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            self._walk(index.index)
        elif isinstance(index, faiss.IndexRefine):
            self._knobs["k_factor"] = _Knob(index, "k_factor", FACTORS)
            self._walk(index.base_index)
        elif isinstance(index, faiss.IndexIVF):
            index.cp.min_points_per_centroid = 1  # FAISS would print a warning, past all of ours
            index.cp.niter = ROUNDS
            self.lists = int(index.nlist)
            grid = tuple(value for value in GRID if value < index.nlist)
            self._knobs["nprobe"] = _Knob(index, "nprobe", (*grid, index.nlist) if index.nlist <= GRID[-1] else grid)
        elif isinstance(index, faiss.IndexHNSW):
            self._knobs["efSearch"] = _Knob(index.hnsw, "efSearch", tuple(value for value in GRID if value >= 10))


def _selecting(index: faiss.Index, selector: faiss.IDSelector, widen: float) -> Any:
    index = faiss.downcast_index(index)
    for kind, make in _MAKERS.items():
        if isinstance(index, kind):
            return make(index, selector, widen)
    return None


def _for_transformed(index: Any, selector: faiss.IDSelector, widen: float) -> Any:
    inner = _selecting(index.index, selector, widen)
    return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)


def _for_refined(index: Any, selector: faiss.IDSelector, widen: float) -> Any:
    inner = _selecting(index.base_index, selector, widen)
    if inner is None:
        return None
    return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=inner)


def _for_lists(index: Any, selector: faiss.IDSelector, widen: float) -> Any:
    return faiss.SearchParametersIVF(sel=selector, nprobe=min(index.nlist, math.ceil(index.nprobe * widen)))


def _for_graph(index: Any, selector: faiss.IDSelector, widen: float) -> Any:
    return faiss.SearchParametersHNSW(sel=selector, efSearch=math.ceil(index.hnsw.efSearch * widen))


def _for_scan(index: Any, selector: faiss.IDSelector, widen: float) -> Any:
    return faiss.SearchParameters(sel=selector)


_MAKERS: dict[Any, Callable[[Any, faiss.IDSelector, float], Any]] = {
    faiss.IndexPreTransform: _for_transformed,
    faiss.IndexRefine: _for_refined,
    faiss.IndexIVF: _for_lists,
    faiss.IndexHNSW: _for_graph,
    faiss.IndexFlat: _for_scan,
    faiss.IndexScalarQuantizer: _for_scan,
}
