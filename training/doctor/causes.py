"""The causes that the doctor knows, the surest and the most fundamental first, and the diagnosis."""

from collections.abc import Callable
from dataclasses import dataclass

from lookalike.training.doctor import rules_before as before
from lookalike.training.doctor import rules_during as during
from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Finding, Observation, Sure
from lookalike.training.errors import TrainingError
from lookalike.training.history import State

__all__ = ["CAUSES", "Cause", "diagnose", "is_hopeless", "refuse"]


@dataclass(frozen=True)
class Cause:
    """A rule with its name, its explanation and its lesson; `fatal` ones are refused before the first step."""

    name: str
    rule: Callable[[Case], Observation | None]
    sure: Sure
    topic: str
    why: str
    fatal: bool = False

    def look(self, case: Case) -> Finding | None:
        """The finding, where the rule sees its cause in this run."""
        if not (seen := self.rule(case)):
            return None
        return Finding(self.name, seen.evidence, self.why, seen.change, self.sure, self.topic, seen.settings)


CAUSES = (
    Cause("bad-rows", before.bad_rows, "certain", "common-mistakes",
          "One NaN in a row makes its loss NaN, and from there every weight.", fatal=True),
    Cause("rows-alike", before.rows_alike, "certain", "autoencoders",
          "Where nothing differs there is nothing to learn, and every item is every other's neighbour.", fatal=True),
    Cause("parameters-missing", before.missing_parameters, "certain", "three-pillars",
          "The optimizer moves only what it was given; the rest keeps its random values.", fatal=True),
    Cause("batch-too-small", before.batch_of_one, "certain", "train-and-eval",
          "One row has no deviation to divide by.", fatal=True),
    Cause("gradients-not-zeroed", during.gradients_not_zeroed, "certain", "common-mistakes",
          "backward() adds to the gradients that are there, so each step follows the sum of all steps before."),
    Cause("judged-in-train-mode", during.judged_in_train_mode, "certain", "train-and-eval",
          "In train mode dropout drops, and batch norm takes the batch's own statistics and learns from the rows "
          "it is judged on."),
    Cause("double-activation", before.double_activation, "certain", "loss-functions",
          "The loss has its own sigmoid or softmax; a second one before it flattens the gradient and bounds the "
          "answer.", fatal=True),
    Cause("wrong-output-range", before.wrong_output_range, "certain", "activations",
          "No weights can make a squashed output reach values outside its range."),
    Cause("resolution-lost", before.blurred_columns, "likely", "common-mistakes",
          "float32 keeps 24 bits of a value: far from 0, small differences are less than its last bit."),
    Cause("far-values", before.far_values, "certain", "common-mistakes",
          "One such value would take its column's whole scale, and leave nothing that tells the others apart. So the "
          "scale is fitted without it, and it counts as the end of the range."),
    Cause("unscaled-inputs", before.unscaled_inputs, "likely", "three-pillars",
          "Initialisation and learning rate are made for values near 1; columns of larger scale take all of the loss."),
    Cause("missing-activations", before.missing_activations, "certain", "activations",
          "Without a nonlinearity between them, matrices multiply out to one: it can do no more than PCA."),
    Cause("duplicates-across-split", before.duplicates, "certain", "overfitting",
          "Rows that were trained on cannot show how it does on rows it has never seen."),
    Cause("batch-too-small", before.batch_too_small, "likely", "train-and-eval",
          "The statistics of so few rows are noise, and differ from those used in eval mode."),
    Cause("exploding-gradients", during.exploding_gradients, "likely", "vanishing-gradients",
          "Weights that are too large multiply up, layer by layer, forward and backward."),
    Cause("vanishing-gradients", during.vanishing_gradients, "likely", "vanishing-gradients",
          "Each layer multiplies the gradient by its slope and its weights; below one, the first layers get nothing."),
    Cause("weight-decay-too-strong", during.weight_decay_too_strong, "likely", "regularization",
          "Every step pulls the weights towards zero, harder than the loss pulls them away."),
    Cause("learning-rate-too-high", during.learning_rate_too_high, "likely", "learning-rate",
          "The step is longer than the slope holds, so it lands higher than it began."),
    Cause("collapsed-latent", during.collapsed_latent, "likely", "latent-space",
          "Dimensions that are the same for every row carry nothing, and neighbours are found without them."),
    Cause("dead-relus", during.dead_relus, "likely", "activations",
          "A ReLU whose input is below zero for every row passes no gradient, so nothing can bring it back."),
    Cause("corruption-too-strong", before.corruption_too_strong, "likely", "denoising",
          "So little of the row is left that its mean is the best guess."),
    Cause("learning-rate-too-low", during.learning_rate_too_low, "likely", "learning-rate",
          "At this pace the weights stay where they were drawn."),
    Cause("too-few-epochs", during.too_few_epochs, "likely", "overfitting",
          "It was stopped before the loss had settled."),
    Cause("bottleneck-too-small", before.bottleneck_too_small, "likely", "autoencoders",
          "What does not fit through the narrowest layer cannot be rebuilt behind it."),
    Cause("overfitting", during.overfitting, "likely", "overfitting",
          "It has room to learn the training rows by heart, and nothing that hinders it."),
    Cause("underfitting", during.underfitting, "possible", "overfitting",
          "It does no better than the mean of each column."),
)  # fmt: skip


def diagnose(state: State) -> list[Finding]:
    """All findings on a run, from its facts and its history alone, the first cause first; none where it is healthy."""
    case = Case.of(state)
    found = [finding for cause in CAUSES if (finding := cause.look(case))]
    return [finding for finding in found if finding.cause != "underfitting" or len(found) == 1]


def refuse(state: State) -> None:
    """Before the first step: refuse what certainly cannot learn.

    Raises:
        TrainingError: it names the cause, the evidence and the change.
    """
    case = Case(state.facts)
    for cause in CAUSES:
        if cause.fatal and (finding := cause.look(case)):
            raise TrainingError(
                finding.cause, expected="none", found=finding.seen, remedy=f"{finding.why} {finding.change}"
            )


def is_hopeless(state: State) -> bool:
    """The loss left the numbers, or was a hundred times a constant's for three epochs and did not halve."""
    return Case.of(state).hopeless
