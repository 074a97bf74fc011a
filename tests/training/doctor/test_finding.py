import dataclasses

import pytest

from lookalike.training.doctor.finding import Finding, Observation


def test_a_finding_is_immutable_and_needs_no_settings() -> None:
    finding = Finding("a cause", "seen", "why", "change", "likely", "activations")
    assert (finding.settings, Observation("seen", "change").settings) == ((), ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.cause = "another"  # type: ignore[misc]
