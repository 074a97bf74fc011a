"""All causes that the doctor knows, the most certain and most fundamental first, and the diagnosis."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from lookalike.training.doctor import rules_before as before
from lookalike.training.doctor import rules_during as during
from lookalike.training.doctor import rules_rows as rows
from lookalike.training.doctor import rules_steps as steps
from lookalike.training.doctor import rules_values as values
from lookalike.training.doctor.case import Case
from lookalike.training.doctor.finding import Finding, Observation, Sure
from lookalike.training.doctor.rules_unknown import unrecognised
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
        sure = seen.sure or self.sure
        return Finding(self.name, seen.evidence, self.why, seen.change, sure, self.topic, seen.settings)


CAUSES = (
    Cause("bad-rows", before.bad_rows, "certain", "common-mistakes",
          "One NaN in a row makes the loss NaN, and the next step makes every weight NaN.", fatal=True),
    Cause("rows-alike", before.rows_alike, "certain", "autoencoders",
          "If all rows are equal, there is nothing to learn, and all items are equally similar.", fatal=True),
    Cause("parameters-missing", before.missing_parameters, "certain", "three-pillars",
          "The optimizer updates only the parameters in its groups; all others keep their random values.", fatal=True),
    Cause("batch-too-small", before.batch_of_one, "certain", "train-and-eval",
          "Batch norm divides by the deviation of a batch, and one row has none.", fatal=True),
    Cause("shapes-differ", values.shapes_differ, "certain", "loss-functions",
          "PyTorch repeats the smaller of two shapes, so that a loss compares every value with every other."),
    Cause("frozen-part", steps.frozen_part, "certain", "cut-gradients",
          "A matrix that needs no gradient, or that has no learning rate, keeps its initial values."),
    Cause("weights-alike", steps.weights_alike, "certain", "backpropagation",
          "Units with equal weights receive equal gradients, so they never become different."),
    Cause("gradients-not-zeroed", during.gradients_not_zeroed, "certain", "common-mistakes",
          "backward() adds to the existing gradients, so each step follows the sum of all gradients so far."),
    Cause("optimizer-never-steps", steps.optimizer_never_steps, "certain", "cut-gradients",
          "Only optimizer.step() changes weights; backward() only computes gradients."),
    Cause("optimizer-recreated", steps.optimizer_recreated, "certain", "optimizers",
          "The moments of an optimizer are means over many steps; a new optimizer has none."),
    Cause("gradient-zeroed", steps.gradient_zeroed, "certain", "cut-gradients",
          "zero_grad() after backward() deletes the gradient that the step needs."),
    Cause("gradient-cut", steps.gradient_cut, "certain", "cut-gradients",
          "A gradient flows only through operations that are recorded and that have a slope."),
    Cause("optimizer-state-lost", steps.optimizer_state_lost, "certain", "optimizers",
          "The moments of an optimizer are means over many steps; without them each step is like the first."),
    Cause("weights-overwritten", steps.weights_overwritten, "certain", "common-mistakes",
          "What the optimizer learns is lost if something else writes the weights."),
    Cause("loss-maximized", steps.loss_maximized, "certain", "learning-rate",
          "The optimizer goes down. With a reversed sign, every step makes the answers worse."),
    Cause("clipped-to-nothing", steps.clipped_to_nothing, "certain", "cut-gradients",
          "Clipping limits the length of a gradient; with too small a limit nothing of it is left."),
    Cause("epsilon-too-large", steps.epsilon_too_large, "certain", "optimizers",
          "An adaptive optimizer divides by the gradient's size plus epsilon; a large epsilon makes every step short."),
    Cause("gradient-changed", steps.gradient_changed, "certain", "cut-gradients",
          "The optimizer follows the gradient that it reads, not the one that the loss has."),
    Cause("schedule-ended", steps.schedule_ended, "likely", "schedules",
          "A schedule that is shorter than the run leaves no learning rate for the rest of it."),
    Cause("momentum-too-high", steps.momentum_too_high, "likely", "optimizers",
          "A step that depends on hundreds of earlier gradients passes the minimum before it turns."),
    Cause("trained-in-eval-mode", rows.trained_in_eval_mode, "certain", "train-and-eval",
          "In eval mode dropout does nothing, and batch norm uses statistics that no step updates."),
    Cause("input-is-noise", rows.input_is_noise, "likely", "denoising",
          "If nothing of a row is left in what the model receives, the mean is the best guess."),
    Cause("same-rows-each-step", rows.same_rows_each_step, "certain", "common-mistakes",
          "A model learns only the rows that it sees."),
    Cause("judged-on-training-rows", rows.judged_on_training_rows, "certain", "overfitting",
          "Rows that the model was trained on cannot show how well it works on new rows."),
    Cause("target-of-another-row", rows.target_of_another_row, "likely", "common-mistakes",
          "If a target does not belong to its row, the mean of all targets is the best guess."),
    Cause("target-is-noise", rows.target_is_noise, "likely", "common-mistakes",
          "If nothing in a row predicts its target, the mean of all targets is the best guess."),
    Cause("loss-ignores-outputs", rows.loss_ignores_outputs, "likely", "loss-functions",
          "What does not influence the loss is not learned."),
    Cause("nan-from-rows", values.nan_from_rows, "certain", "common-mistakes",
          "One NaN in a row makes the loss NaN, and the next step makes every weight NaN."),
    Cause("nan-from-loss", values.nan_from_loss, "likely", "common-mistakes",
          "A logarithm or a root of a value at or below 0, or a NaN in the targets, is not finite."),
    Cause("nan-from-division", values.nan_from_division, "likely", "common-mistakes",
          "0 / 0 and the slope of a root at 0 are not finite; from there, NaN reaches every weight."),
    Cause("batches-of-one-kind", rows.batches_of_one_kind, "likely", "common-mistakes",
          "Each step follows one kind of row and forgets the others; batch norm sees other statistics than later."),
    Cause("stale-statistics", rows.stale_statistics, "likely", "train-and-eval",
          "In eval mode batch norm uses running statistics, which must follow those of the rows."),
    Cause("judged-in-train-mode", during.judged_in_train_mode, "certain", "train-and-eval",
          "In train mode dropout is active, and batch norm uses the statistics of the batch and updates them from "
          "the validation rows."),
    Cause("double-activation", before.double_activation, "certain", "loss-functions",
          "The loss applies a sigmoid or softmax itself; a second one flattens the gradient and limits the "
          "output.", fatal=True),
    Cause("wrong-output-range", before.wrong_output_range, "certain", "activations",
          "The output activation cannot produce values outside of its range, whatever the weights are."),
    Cause("wrong-output-range", values.out_of_reach, "certain", "activations",
          "The last operation cannot produce these values, whatever the weights are."),
    Cause("resolution-lost", before.blurred_columns, "likely", "common-mistakes",
          "float32 keeps 24 bits of a value: far from 0, small differences are below the last bit."),
    Cause("far-values", before.far_values, "certain", "common-mistakes",
          "One such value would dominate the scale of its column, and make all other values look equal. So the "
          "scale is fitted without it, and it is clipped to the end of the range."),
    Cause("unscaled-inputs", before.unscaled_inputs, "likely", "three-pillars",
          "Initialization and learning rate suit values near 1; columns of larger scale dominate the loss."),
    Cause("judged-on-other-rows", rows.judged_on_other_rows, "likely", "overfitting",
          "A loss on rows of another kind does not show how well the model works on rows of its own kind."),
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
    Cause("unrecognised", unrecognised, "possible", "common-mistakes",
          "The signs fit no cause that is known here.", slow=True),
    Cause("underfitting", during.underfitting, "possible", "overfitting",
          "The model is no better than predicting the mean of each column.", slow=True),
)  # fmt: skip

LAST = {"unrecognised", "underfitting"}
"""Reported only without any other finding."""
BROKEN = {cause.name for cause in CAUSES if cause.rule.__module__.rpartition(".")[2] in {"rules_steps", "rules_values"}}


def diagnose(state: State) -> list[Finding]:
    """Return all findings on a run, in the order of `CAUSES`; empty for a healthy run. Uses only facts and history.

    After one or two epochs, all findings that need more epochs become one: it is too early to tell. If it is certain
    that something is broken, the slow findings may be its consequences: they become "possible".
    """
    case = Case.of(state)
    seen: dict[str, tuple[Cause, Finding]] = {}
    for cause in CAUSES:
        if finding := cause.look(case):
            seen.setdefault(
                f"{cause.name} {cause.sure}" if cause.name == "batch-too-small" else cause.name, (cause, finding)
            )
    early = "too-early" in seen
    slow = any(cause.slow for cause, _ in seen.values())
    kept = [
        (cause, finding)
        for cause, finding in seen.values()
        if not (early and cause.slow) and not (cause.name == "too-early" and not slow)
    ]
    broken = any(finding.sure == "certain" and finding.cause in BROKEN for _, finding in kept)
    findings = [replace(finding, sure="possible") if broken and cause.slow else finding for cause, finding in kept]
    known = [finding for finding in findings if finding.cause not in LAST]
    return known or findings[:1]


def refuse(state: State) -> None:
    """Raise TrainingError, with the evidence and the change, if it is certain that the run cannot learn."""
    case = Case(state.facts)
    for cause in CAUSES:
        if cause.fatal and (finding := cause.look(case)):
            raise finding.error("a run that can learn")
