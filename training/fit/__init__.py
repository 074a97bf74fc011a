"""From rows to a trained encoder: split, fit, checkpoint, resume, repeat with the first advice.

Imports every other room of training except evaluation.
"""

__all__: list[str] = []
