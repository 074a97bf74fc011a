"""How good an encoder is: reconstruction, label precision, probes, and an untrained encoder beside it.

Imports every other room of training.
"""

__all__: list[str] = []
