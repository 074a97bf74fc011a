"""Approximate nearest neighbors: a FAISS index, its candidates, and the search for the fastest with a recall.

Imports index's errors and limits.
"""

__all__: list[str] = []
