"""The quality of an encoder: reconstruction, label precision, probes, and an untrained encoder as a baseline.

Imports every other room of training.
"""

__all__: list[str] = []
