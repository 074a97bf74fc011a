"""Approximate nearest neighbors: FAISS indexes, candidates, and tuning for the fastest one with a target recall.

Imports index's errors and limits.
"""

__all__: list[str] = []
