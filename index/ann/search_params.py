"""What can be set on a FAISS index when it is searched, whatever it is made of."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from lookalike.training.errors import ConfigError

__all__ = ["ROUNDS", "SearchParams", "Selection"]

MOST = {"nprobe": 1 << 20, "efSearch": 1 << 16, "k_factor": 1 << 10}
"""The largest values: FAISS allocates memory for all that a search may visit before it starts."""
_WHOLE = re.compile(r"[0-9]{1,9}")
GRID = (*range(1, 17), 18, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
ROUNDS = 20
"""Of k-means. FAISS's own 10 leave recall at as many lists a third of a point lower."""
FACTORS = (2, 4, 8, 16)
"""Of how many candidates the exact refinement chooses, as a multiple of k."""
MAX_REFINED = 1 << 16
"""The most candidates that a search among some refines, unless it is told to by its own parameter."""

PASSED_OVER = 4
"""Items of a list that FAISS looks at in the time in which one is read and compared with the query, at least."""
LINKS = 32
"""Items that a graph compares with the query for each that it goes on from, about."""


@dataclass(frozen=True)
class _SearchParam:
    """One parameter: the object that has it, its name there, and the values worth a try, rising."""

    holder: Any
    attribute: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """The items that a filter allows, as FAISS is told of them.

    Attributes:
        count, total: how many are allowed, of how many.
        items: which.
        lists: which lists hold any of them; None where the index has none, or cannot leave any out.
        held: how many lists are to be looked into, at most.
    """

    count: int
    total: int
    items: faiss.IDSelector
    lists: faiss.IDSelector | None
    held: int


class SearchParams:
    """The search parameters of an index, by name: nprobe, efSearch, k_factor."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index
        self._search_params: dict[str, _SearchParam] = {}
        self.lists = 0
        """How many lists the vectors are parted into; 0 where they are not."""
        self._walk(index)
        self.is_graph = "efSearch" in self._search_params

    def grids(self) -> dict[str, tuple[int, ...]]:
        """The values worth a try, rising, by name; the outermost first."""
        return {name: param.values for name, param in self._search_params.items()}

    def set(self, text: str) -> None:
        """Set what "nprobe=8,k_factor=4" says.

        Raises:
            ConfigError: no such parameter, or a value below 1.
        """
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in self._search_params or not _WHOLE.fullmatch(value) or not 1 <= int(value) <= MOST[name]:
                known = (
                    ", ".join(f"{known}=N, N from 1 to {MOST[known]:,}" for known in self._search_params) or "nothing"
                )
                raise ConfigError("search parameters", expected=known, found=part)
            param = self._search_params[name]
            setattr(param.holder, param.attribute, int(value))

    def select(self, allowed: NDArray[np.bool_]) -> Selection:
        """Prepare searches among the allowed items, (items,) bool, with one pass over the lists."""
        lists, held = None, self.lists
        if self.lists and isinstance(faiss.downcast_index(self._search_params["nprobe"].holder.quantizer), _CHOOSY):
            holds = _lists_with(self._search_params["nprobe"].holder, allowed)
            lists, held = _bitmap(holds), int(holds.sum())
        return Selection(int(allowed.sum()), len(allowed), _bitmap(allowed), lists, held)

    def selecting(self, selection: Selection, k: int, farther: int) -> Any:
        """FAISS's parameters for a search for k among the selected, looking `farther` times as far as without a filter.

        As far means at as many of the items that may be found.

        Returns:
            None where it would take as long to compare all of the selected with the query, or where an index of this
            kind can leave no item out.
        """
        return _selecting(self._index, selection, k, farther) if selection.count else None

    def positions(self) -> Iterator[NDArray[np.int64]]:
        """The positions in each list, (m,), without a copy."""
        for number in range(self.lists):
            lists = self._search_params["nprobe"].holder.invlists
            if size := int(lists.list_size(number)):
                yield faiss.rev_swig_ptr(lists.get_ids(number), size)

    def _walk(self, index: faiss.Index) -> None:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            self._walk(index.index)
        elif isinstance(index, faiss.IndexRefine):
            self._search_params["k_factor"] = _SearchParam(index, "k_factor", FACTORS)
            self._walk(index.base_index)
        elif isinstance(index, faiss.IndexIVF):
            index.cp.min_points_per_centroid = 1  # FAISS would print a warning, past all of ours
            index.cp.niter = ROUNDS
            self.lists = int(index.nlist)
            grid = tuple(value for value in GRID if value < index.nlist)
            self._search_params["nprobe"] = _SearchParam(
                index, "nprobe", (*grid, index.nlist) if index.nlist <= GRID[-1] else grid
            )
        elif isinstance(index, faiss.IndexHNSW):
            self._search_params["efSearch"] = _SearchParam(
                index.hnsw, "efSearch", tuple(value for value in GRID if value >= 10)
            )


def _bitmap(mask: NDArray[np.bool_]) -> faiss.IDSelector:
    bits = np.packbits(mask, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    selector.kept = bits  # FAISS points into it
    return selector


def _lists_with(index: faiss.IndexIVF, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(lists,) bool: which lists hold an allowed item."""
    lists = index.invlists
    holds = np.zeros(index.nlist, bool)
    for number in range(index.nlist):
        if size := int(lists.list_size(number)):
            holds[number] = allowed[faiss.rev_swig_ptr(lists.get_ids(number), size)].any()
    return holds


def _selecting(index: faiss.Index, selection: Selection, k: int, farther: int) -> Any:
    index = faiss.downcast_index(index)
    for kind, make in _MAKERS.items():
        if isinstance(index, kind):
            return make(index, selection, k, farther)
    return None


def _for_transformed(index: Any, selection: Selection, k: int, farther: int) -> Any:
    inner = _selecting(index.index, selection, k, farther)
    return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)


def _for_refined(index: Any, selection: Selection, k: int, farther: int) -> Any:
    inner = _selecting(index.base_index, selection, k, farther)
    if inner is None:
        return None
    # from afar the items' distances differ less, so codes tell them apart less well, and more have to be refined
    factor = max(index.k_factor, min(index.k_factor * farther, MAX_REFINED // k))
    return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)


def _for_lists(index: Any, selection: Selection, k: int, farther: int) -> Any:
    size = selection.total / index.nlist
    probes = math.ceil(index.nprobe * farther * size * selection.held / selection.count)
    if probes >= selection.held or probes * size > PASSED_OVER * selection.count:
        return None
    if selection.lists is None:
        return faiss.SearchParametersIVF(sel=selection.items, nprobe=probes)
    chosen = faiss.SearchParameters(sel=selection.lists)
    return faiss.SearchParametersIVF(sel=selection.items, nprobe=probes, quantizer_params=chosen)


def _for_graph(index: Any, selection: Selection, k: int, farther: int) -> Any:
    width = math.ceil(max(index.hnsw.efSearch, k) * farther * selection.total / selection.count)
    if width * LINKS > selection.count:
        return None
    return faiss.SearchParametersHNSW(sel=selection.items, efSearch=width)


_CHOOSY = (faiss.IndexFlat, faiss.IndexScalarQuantizer)
"""What finds the nearest lists, where it can leave lists out."""
_MAKERS: dict[Any, Callable[[Any, Selection, int, int], Any]] = {
    faiss.IndexPreTransform: _for_transformed,
    faiss.IndexRefine: _for_refined,
    faiss.IndexIVF: _for_lists,
    faiss.IndexHNSW: _for_graph,
}
