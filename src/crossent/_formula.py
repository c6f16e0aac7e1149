"""The formula as a library runs it by itself: the composite functions of a namespace.

A library's namespace derives from `Formula` and has the primitive functions, in NumPy's names and
semantics; what the losses ask for beyond them is composed here of `_row_stats`, and the library
differentiates it. So a namespace runs on any device, compiled or not, forwards and backwards, as
often as wanted. Where there are kernels, a namespace puts them in place of these methods.
"""

import math
from typing import Any

from crossent import _row_stats
from crossent._row_stats import RowOptions, RowStatistics


class Formula:
    """Composite functions; `self` has the primitive ones.

    Beside the names that `_row_stats` uses these are `integer(x)`: whether an array holds integers;
    `as_wide(x)`: whether the arithmetic is no wider than this array; `result_dtype(x)`; and for the
    logarithms below `plain`, the library's module that has its own, and `greatest(x)`: the greatest
    number of an array's dtype.
    """

    inf = math.inf
    nan = math.nan

    def __getattr__(self, name: str) -> Any:
        # For mypy: the primitive functions are those of the derived class.
        raise AttributeError(f"{type(self).__name__} has no {name}")

    def row_statistics(
        self, logits: Any, labels: Any, class_weight: Any, options: RowOptions
    ) -> RowStatistics:
        """Statistics of each row, see `_row_stats`."""
        of_labels = labels if self.integer(labels) else self.widen(labels)
        options, x = self._options(logits, options), self.widen(logits)
        statistics = _row_stats.row_statistics(self, x, of_labels, class_weight, options)
        sound = self._sound(statistics.log_sum)
        return RowStatistics(*(sound * statistic for statistic in statistics))

    def neg_log_probs(self, logits: Any, options: RowOptions) -> tuple[Any, Any]:
        """-log softmax of every class, and each row's log-sum-exp."""
        options, x = self._options(logits, options), self.widen(logits)
        nlp, lse = _row_stats.neg_log_probs(self, x, options)
        sound = self._sound(self.max(x, axis=-1))
        return sound[..., None] * nlp, sound * lse

    def probabilities(self, logits: Any) -> Any:
        """Softmax of each row, as wide as arithmetic goes on with it."""
        return _row_stats.softmax(self, self.widen(logits), self._options(logits, RowOptions()))

    def softmax(self, logits: Any) -> Any:
        """Softmax of each row."""
        return self.returned(self.probabilities(logits), self.result_dtype(logits))

    def log_softmax(self, logits: Any) -> Any:
        """Its logarithm."""
        options = self._options(logits, RowOptions())
        result = _row_stats.log_softmax(self, self.widen(logits), options)
        return self.returned(result, self.result_dtype(logits))

    def log_sum_exp(self, logits: Any) -> Any:
        """Log-sum-exp of each row."""
        options = self._options(logits, RowOptions())
        result = _row_stats.log_sum_exp(self, self.widen(logits), options)
        return self.returned(result, self.result_dtype(logits))

    def activation(self, name: str, x: Any) -> Any:
        """One of `_row_stats.ACTIVATIONS`, element by element."""
        result = _row_stats.ACTIVATIONS[name](self, self.widen(x))
        return self.returned(result, self.result_dtype(x))

    def sigmoid_loss(self, x: Any, z: Any, r: Any, w: Any) -> Any:
        """Weight w times the sigmoid loss of every element."""
        losses = _row_stats.sigmoid_loss(self, self.widen(x), self.widen(z), r)
        return losses if w is None else self.times(w, losses)

    def log(self, x: Any) -> Any:
        """log x, with the derivative 0 at x = 0 where nothing flows back, and else infinite."""
        zero = x == 0
        steep = self._steep(zero, x) - self.inf
        return self.plain.log(self.where(zero, 1.0, x)) + self.where(zero, steep, 0.0)

    def log1p(self, x: Any) -> Any:
        """log(1 + x), with the same rule at x = -1."""
        end = x == -1
        steep = self._steep(end, 1 + x) - self.inf
        return self.plain.log1p(self.where(end, 0.0, x)) + self.where(end, steep, 0.0)

    def power(self, x: Any, q: float) -> Any:
        """x^q, 0 < q <= 1, with the same rule at x = 0."""
        zero = x == 0
        at_zero = self._steep(zero, x) if q < 1 else x
        return self.where(zero, at_zero, self.where(zero, 1.0, x) ** q)

    def _steep(self, zero: Any, x: Any) -> Any:
        """0 where x is, with an infinite derivative.

        Two factors overflow in the derivative only: in the value they meet 0.
        """
        base = self.where(zero, x, 0.0)
        # Not constants: TensorFlow's graphs and XLA would fold the two into one that is infinite.
        huge = self.stop_gradient(base + self.greatest(x))
        return base * huge * huge

    def times(self, weight: Any, values: Any) -> Any:
        """weight * values, where a weight of 0 gives 0 whatever the value.

        Its derivative in the weight is there too, unless the value is infinite or NaN.
        """
        hidden = (weight == 0) & ~self.isfinite(values)
        return weight * self.where(hidden, 0.0, values)

    def hide(self, scores: Any, idle: Any, fill: float) -> Any:
        """Fills rows that do not count and have no softmax: 0 * NaN is no derivative."""
        peak = self.max(scores, axis=-1)
        nan = self.sum(self.where(self.isnan(scores), 1.0, 0.0), axis=-1) > 0
        hidden = idle & (nan | ~self.isfinite(peak))
        return self.where(hidden[..., None], fill, scores)

    def _sound(self, tell: Any) -> Any:
        """1, or NaN in rows that have no softmax: as a factor it makes their gradients NaN too.

        `tell` is finite in all other rows.
        """
        finite = self.isfinite(self.stop_gradient(tell))
        return self.where(finite, self.widen(1.0), self.nan)

    def _options(self, logits: Any, options: RowOptions) -> RowOptions:
        # Not _replace, which the compiler of PyTorch before 2.9 does not follow.
        softcap, temperature, with_mean, _ = options
        return RowOptions(softcap, temperature, with_mean, compensate=self.as_wide(logits))
