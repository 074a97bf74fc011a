"""The rule for everything else: something is wrong, and no rule knows it."""

import math

from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Observation

__all__ = ["unrecognised"]

LITTLE, LINEAR = 0.6, 0.35
RISEN = 1.3
APART = 3.0
IDLE, WILD = 1e-4, 0.2


def unrecognised(case: Case) -> Observation | None:
    """A run that did not learn, or whose signs are unlike those of any healthy run."""
    if not (signs := _signs(case)):
        return None
    return Observation(
        f"something is wrong that I do not recognise; this is unusual: {'; '.join(signs)}",
        "Compare these signs with a run that learns, and change one thing at a time",
    )


def _signs(case: Case) -> list[str]:
    if not case.history:
        return []
    signs, best, first = [], case.best, case.first
    if case.has_nonfinite_loss:
        signs.append("a loss is not finite")
    if best != math.inf and best >= _poor(case) and len(case.history) > 2:
        signs.append(f"the best loss is {best:.2f} of a constant answer's")
    train = [loss for loss in case.train if loss != math.inf]
    if len(train) > 3 and train[-1] > RISEN * min(train) and train[-1] > 0.3:
        signs.append(f"the training loss rose from {min(train):.2f} to {train[-1]:.2f} of a constant answer's")
    if train and case.validation[-1] > APART * train[-1] + 0.5:
        signs.append(f"the validation loss is {case.validation[-1]:.2f}, the training loss {train[-1]:.2f}")
    along, update = first.get("along"), case.largest_update
    if along is not None and along < 0:
        signs.append(f"the steps do not follow the descent (cosine {along:.2f})")
    if first.get("update") and not IDLE <= update <= WILD and best > 0.3:
        signs.append(f"a step changes a matrix by {update:.1e} of its norm")
    return signs


def _poor(case: Case) -> float:
    """The loss from which a run is poor: less of it if a linear map of the same width explains the rows well."""
    spectrum, narrowest = case.facts.get("spectrum", []), min(case.facts.get("widths", []), default=0)
    linear = spectrum[narrowest - 1] if 0 < narrowest <= len(spectrum) else LITTLE
    return LITTLE if linear <= LINEAR else max(LITTLE, min(0.95, linear + 0.3))
