"""The search parameters of a FAISS index of any kind."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from lookalike.training.array_types import Booleans, Integers
from lookalike.training.errors import ConfigError

__all__ = ["ROUNDS", "SearchParams", "Selection"]

MOST = {"nprobe": 1 << 20, "efSearch": 1 << 16, "k_factor": 1 << 10}
"""The largest values: FAISS allocates memory for all that a search may visit before it starts."""
_WHOLE = re.compile(r"[0-9]{1,9}")
GRID = (*range(1, 17), 18, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
ROUNDS = 20
"""Iterations of k-means. With FAISS's default of 10, recall is a third of a point lower for the same lists."""
FACTORS = (2, 4, 8, 16)
"""Numbers of candidates for the exact refinement, as multiples of k."""
MAX_REFINED = 1 << 16
"""The most candidates that a filtered search refines, unless its `k_factor` is larger."""

PASSED_OVER = 4
"""FAISS skips at least this many items of a list in the time of one comparison with the query."""
LINKS = 32
"""About how many items a graph search compares with the query at each step."""
_SELECTIVE = (faiss.IndexFlat, faiss.IndexScalarQuantizer)
"""Quantizers that find the nearest lists and can skip lists."""


@dataclass(frozen=True)
class _SearchParam:
    """One parameter: the object that has it, its name there, and the values to try, ascending."""

    holder: Any
    attribute: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """The items that a filter allows: `count` of `total`, in the form that FAISS needs.

    Attributes:
        lists: the lists that contain allowed items; None if the index has no lists or cannot skip lists.
        held: the number of lists that contain allowed items; all lists if unknown.
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
        """The number of lists that the vectors are divided into; 0 for an index without lists."""
        self._walk(index)
        self.is_graph = "efSearch" in self._search_params

    def grids(self) -> dict[str, tuple[int, ...]]:
        """Return the values to try, ascending, by parameter name; the outermost parameter comes first."""
        return {name: param.values for name, param in self._search_params.items()}

    def set(self, text: str) -> None:
        """Set parameters from a text such as "nprobe=8,k_factor=4". Raises ConfigError if a part is invalid."""
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in self._search_params or not _WHOLE.fullmatch(value) or not 1 <= int(value) <= MOST[name]:
                known = ", ".join(f"{known}=N, N from 1 to {MOST[known]:,}" for known in self._search_params)
                raise ConfigError("search parameters", expected=known or "no parameter", found=part)
            param = self._search_params[name]
            setattr(param.holder, param.attribute, int(value))

    def select(self, allowed: Booleans) -> Selection:
        """Prepare searches among the allowed items, (items,) bool, with one pass over the lists."""
        lists, held = None, self.lists
        if self.lists and isinstance(faiss.downcast_index(self._search_params["nprobe"].holder.quantizer), _SELECTIVE):
            has_allowed = np.array([allowed[positions].any() for positions in self.positions()])  # (lists,)
            lists, held = _bitmap(has_allowed), int(has_allowed.sum())
        return Selection(int(allowed.sum()), len(allowed), _bitmap(allowed), lists, held)

    def for_selection(self, selection: Selection, k: int, effort: int) -> Any:
        """Return FAISS's parameters for a search for k of the selected items, or None.

        The search visits `effort` times as many selected items as an unfiltered search visits items. None: comparing
        the query with all selected items takes no longer, or this kind of index cannot skip items.
        """
        return _parameters(self._index, selection, k, effort) if selection.count else None

    def positions(self) -> Iterator[Integers]:
        """Yield the positions in each list, (m,), not copied."""
        for number in range(self.lists):
            lists = self._search_params["nprobe"].holder.invlists
            size = int(lists.list_size(number))
            yield faiss.rev_swig_ptr(lists.get_ids(number), size) if size else np.empty(0, np.int64)

    def _walk(self, index: faiss.Index) -> None:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            self._walk(index.index)
        elif isinstance(index, faiss.IndexRefine):
            self._search_params["k_factor"] = _SearchParam(index, "k_factor", FACTORS)
            self._walk(index.base_index)
        elif isinstance(index, faiss.IndexIVF):
            index.cp.min_points_per_centroid = 1  # otherwise FAISS prints a warning
            index.cp.niter = ROUNDS
            self.lists = int(index.nlist)
            grid = tuple(value for value in GRID if value < index.nlist)
            grid += (index.nlist,) if index.nlist <= GRID[-1] else ()
            self._search_params["nprobe"] = _SearchParam(index, "nprobe", grid)
        elif isinstance(index, faiss.IndexHNSW):
            grid = tuple(value for value in GRID if value >= 10)
            self._search_params["efSearch"] = _SearchParam(index.hnsw, "efSearch", grid)


def _bitmap(mask: Booleans) -> faiss.IDSelector:
    bits = np.packbits(mask, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    selector.kept = bits  # FAISS keeps a pointer into this array
    return selector


def _parameters(index: faiss.Index, selection: Selection, k: int, effort: int) -> Any:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(index.index, selection, k, effort)
        return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(index.base_index, selection, k, effort)
        # far from the query, distances differ less, so codes distinguish the items less well and more must be refined
        factor = max(index.k_factor, min(index.k_factor * effort, MAX_REFINED // k))
        return None if inner is None else faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)
    if isinstance(index, faiss.IndexIVF):
        size = selection.total / index.nlist
        probes = math.ceil(index.nprobe * effort * size * selection.held / selection.count)
        if probes >= selection.held or probes * size > PASSED_OVER * selection.count:
            return None
        only_lists = {"quantizer_params": faiss.SearchParameters(sel=selection.lists)} if selection.lists else {}
        return faiss.SearchParametersIVF(sel=selection.items, nprobe=probes, **only_lists)
    if isinstance(index, faiss.IndexHNSW):
        width = math.ceil(max(index.hnsw.efSearch, k) * effort * selection.total / selection.count)
        if width * LINKS <= selection.count:
            return faiss.SearchParametersHNSW(sel=selection.items, efSearch=width)
    return None
