"""What an audit finds out about predictions, as plain numbers. Losses are in nats."""

import math
from typing import NamedTuple

from crossent.auditing.scoring import LossFamily


class ClassScores(NamedTuple):
    """Scores of the rows of one class; with several sigmoid outputs, of one output."""

    class_id: int
    rows: int
    share: float | None
    mean_loss: float | None
    accuracy: float | None


class WorstRow(NamedTuple):
    """A row with a high loss; `output` is None but for several sigmoid outputs."""

    row: int
    output: int | None
    label: int
    label_prob: float
    predicted: int
    loss: float


class Scores(NamedTuple):
    """Scores of all rows that could be scored; None where nothing could.

    Attributes:
        family: which loss was scored.
        rows: rows read. scored, ignored and unscorable add up to `elements`, which is rows, or
            rows times outputs for several sigmoid outputs.
        weight: sum of the sample weights, the divisor of every mean; without weights the number
            of rows.
        mean_loss: mean cross-entropy in nats; infinite if a label has probability 0.
        mean_finite_loss: mean over the rows whose loss is finite.
        accuracy: share of rows whose highest score is the label's; of equal scores the lowest class
            counts, and a sigmoid probability of 1/2 predicts 0.
        brier: mean over rows of the sum over classes of (p - label)**2, in [0, 2]; for the sigmoid
            family the mean of (p - label)**2, in [0, 1].
        calibration_error: expected calibration error over `calibration_bins` bins of equal width,
            [a, b) with the last closed. Softmax: of the predicted class (top-label). Sigmoid: of
            the probability of 1 (positive rate).
        uniform_loss: loss of equal probabilities, ln K or ln 2.
        prior_loss: loss of the class frequencies of these labels for every row, their entropy.
        worst_percent_share: share of the loss from the 1 % of rows with the highest loss, to
            1 part in 64.
        zero_prob: rows whose label has probability 0.
        unnormalised: rows that do not sum to 1 and were scored by -log p as it stands.
    """

    family: LossFamily
    rows: int
    elements: int
    scored: int
    ignored: int
    unscorable: int
    classes: int
    weight: float
    mean_loss: float | None
    mean_finite_loss: float | None
    accuracy: float | None
    brier: float | None
    calibration_error: float | None
    calibration_bins: int
    uniform_loss: float
    prior_loss: float | None
    worst_percent_share: float | None
    zero_prob: int
    unnormalised: int
    per_class: tuple[ClassScores, ...]
    worst: tuple[WorstRow, ...]

    @property
    def mean_loss_bits(self) -> float | None:
        """The mean loss in bits."""
        return None if self.mean_loss is None else self.mean_loss / math.log(2)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean loss in nats: of how many equal classes the label seems to be one."""
        if self.mean_loss is None:
            return None
        try:
            return math.exp(self.mean_loss)
        except OverflowError:
            return math.inf

    @property
    def calibration_variant(self) -> str:
        """The name of the calibration error, in full."""
        of = "top-label" if self.family == "softmax" else "positive rate"
        return f"{of}, {self.calibration_bins} equal-width bins"
