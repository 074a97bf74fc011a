"""All causes that the doctor knows, the most certain and most fundamental first, and the diagnosis."""

from collections.abc import Callable
from dataclasses import dataclass

from lookalike.training.doctor import rules_before as before
from lookalike.training.doctor import rules_during as during
from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Finding, Observation, Sure
from lookalike.training.history import State

__all__ = ["CAUSES", "Cause", "diagnose", "refuse"]


@dataclass(frozen=True)
class Cause:
    """A rule with its name, explanation and lesson.

    Attributes:
        fatal: whether the cause is refused before the first step.
        slow: whether the rule needs the losses of more than a few epochs; before that, "too-early" replaces it.
    """

    name: str
    rule: Callable[[Case], Observation | None]
    sure: Sure
    topic: str
    why: str
    fatal: bool = False
    slow: bool = False

    def look(self, case: Case) -> Finding | None:
        """Return a finding if the rule detects its cause in this run, else None."""
        if not (seen := self.rule(case)):
            return None
        return Finding(self.name, seen.evidence, self.why, seen.change, self.sure, self.topic, seen.settings)


CAUSES = (
    Cause("bad-rows", before.bad_rows, "certain", "common-mistakes",
          "One NaN in a row makes the loss NaN, and the next step makes every weight NaN.", fatal=True),
    Cause("rows-alike", before.rows_alike, "certain", "autoencoders",
          "If all rows are equal, there is nothing to learn, and all items are equally similar.", fatal=True),
    Cause("parameters-missing", before.missing_parameters, "certain", "three-pillars",
          "The optimizer updates only the parameters in its groups; all others keep their random values.", fatal=True),
    Cause("batch-too-small", before.batch_of_one, "certain", "train-and-eval",
          "Batch norm divides by the deviation of a batch, and one row has none.", fatal=True),
    Cause("gradients-not-zeroed", during.gradients_not_zeroed, "certain", "common-mistakes",
          "backward() adds to the existing gradients, so each step follows the sum of all gradients so far."),
    Cause("judged-in-train-mode", during.judged_in_train_mode, "certain", "train-and-eval",
          "In train mode dropout is active, and batch norm uses the statistics of the batch and updates them from "
          "the validation rows."),
    Cause("double-activation", before.double_activation, "certain", "loss-functions",
          "The loss applies a sigmoid or softmax itself; a second one flattens the gradient and limits the "
          "output.", fatal=True),
    Cause("wrong-output-range", before.wrong_output_range, "certain", "activations",
          "The output activation cannot produce values outside of its range, whatever the weights are."),
    Cause("resolution-lost", before.blurred_columns, "likely", "common-mistakes",
          "float32 keeps 24 bits of a value: far from 0, small differences are below the last bit."),
    Cause("far-values", before.far_values, "certain", "common-mistakes",
          "One such value would dominate the scale of its column, and make all other values look equal. So the "
          "scale is fitted without it, and it is clipped to the end of the range."),
    Cause("unscaled-inputs", before.unscaled_inputs, "likely", "three-pillars",
          "Initialization and learning rate suit values near 1; columns of larger scale dominate the loss."),
    Cause("missing-activations", before.missing_activations, "certain", "activations",
          "Without a nonlinearity between them, the weight matrices act as one: the model can do no more than PCA."),
    Cause("duplicates-across-split", before.duplicates, "certain", "overfitting",
          "Rows that the model was trained on cannot show how well it works on new rows."),
    Cause("batch-too-small", before.batch_too_small, "likely", "train-and-eval",
          "The statistics of a few rows are noisy, and differ from the statistics used in eval mode."),
    Cause("exploding-gradients", during.exploding_gradients, "likely", "vanishing-gradients",
          "Weights that are too large amplify values and gradients, layer by layer."),
    Cause("vanishing-gradients", during.vanishing_gradients, "likely", "vanishing-gradients",
          "Each layer multiplies the gradient by its slope and its weights; if the product is below 1, the first "
          "layers get almost no gradient."),
    Cause("weight-decay-too-strong", during.weight_decay_too_strong, "likely", "regularization",
          "Every step pulls the weights towards zero more strongly than the loss pulls them away.", slow=True),
    Cause("learning-rate-too-high", during.learning_rate_too_high, "likely", "learning-rate",
          "A step leaves the region in which the gradient is valid, so the loss rises.", slow=True),
    Cause("collapsed-latent", during.collapsed_latent, "likely", "latent-space",
          "Dimensions that are the same for every row carry no information, and do not help to find neighbors.",
          slow=True),
    Cause("dead-relus", during.dead_relus, "likely", "activations",
          "A ReLU whose input is below zero for every row passes no gradient, so it cannot recover.", slow=True),
    Cause("corruption-too-strong", before.corruption_too_strong, "likely", "denoising",
          "Too little of a row is left, so the mean is the best guess."),
    Cause("learning-rate-too-low", during.learning_rate_too_low, "likely", "learning-rate",
          "At this rate the weights hardly move from their initial values.", slow=True),
    Cause("too-few-epochs", during.too_few_epochs, "likely", "overfitting",
          "Training stopped before the loss converged.", slow=True),
    Cause("too-early", during.too_early, "certain", "overfitting",
          "The losses of the first epochs depend more on the initial weights than on the settings, so it is too early "
          "to tell a cause."),
    Cause("bottleneck-too-small", before.bottleneck_too_small, "likely", "autoencoders",
          "Information that does not fit through the narrowest layer cannot be reconstructed.", slow=True),
    Cause("overfitting", during.overfitting, "likely", "overfitting",
          "The model is large enough to memorize the training rows, and nothing prevents it.", slow=True),
    Cause("underfitting", during.underfitting, "possible", "overfitting",
          "The model is no better than predicting the mean of each column.", slow=True),
)  # fmt: skip


def diagnose(state: State) -> list[Finding]:
    """Return all findings on a run, in the order of `CAUSES`; empty for a healthy run. Uses only facts and history.

    After one or two epochs, all findings that need more epochs become one: it is too early to tell.
    """
    case = Case.of(state)
    seen = {cause: finding for cause in CAUSES if (finding := cause.look(case))}
    early = any(finding.cause == "too-early" for finding in seen.values())
    slow = any(cause.slow for cause in seen)
    left_out = {cause for cause in seen if (early and cause.slow) or (cause.name == "too-early" and not slow)}
    findings = [finding for cause, finding in seen.items() if cause not in left_out]
    return [finding for finding in findings if finding.cause != "underfitting" or len(findings) == 1]


def refuse(state: State) -> None:
    """Raise TrainingError, with the evidence and the change, if it is certain that the run cannot learn."""
    case = Case(state.facts)
    for cause in CAUSES:
        if cause.fatal and (finding := cause.look(case)):
            raise finding.error("a run that can learn")
