"""From rows to a trained encoder: split, fit, checkpoint, resume, and retrain with the doctor's first remedy.

Imports every other room of training except evaluation.
"""

__all__: list[str] = []
