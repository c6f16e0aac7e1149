"""Loss objects: what both generations share, and the base class of Keras 3."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from crossent._arrays import library_of
from crossent._checks import Shape
from crossent.tf_compat._distribute import replica_count
from crossent.tf_compat._tensors import cast, converted, numbers, shape_of, tensor
from crossent.tf_compat.keras import _reduction
from crossent.tf_compat.keras._settings import Settings, float_dtype
from crossent.tf_compat.keras._shapes import broadcast, squeezed_or_expanded

SETTINGS = Settings()

_unnamed: Counter[str] = Counter()


class BaseLoss(ABC):
    """A row loss with its options, and the way from row losses to one number.

    Each generation fills in its rules: the abstract methods.
    """

    name: str | None
    reduction: str | None
    _function: Callable[..., Any] | None = None
    _options: dict[str, Any]
    _dtype: str | None = None  # the result's; None: that of the row losses

    def __repr__(self) -> str:
        config = self.get_config()
        # What makes the loss comes before what every loss has.
        last: dict[str, Any] = {
            key: config.pop(key) for key in ("reduction", "name", "dtype") if key in config
        }
        arguments = ", ".join(f"{key}={value!r}" for key, value in {**config, **last}.items())
        return f"{type(self).__name__}({arguments})"

    def _score_with(self, function: Callable[..., Any], **options: Any) -> None:
        """Let `call` be this row loss with these options, which also become attributes."""
        self._function, self._options = function, options
        vars(self).update(options)

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None, *, mask: Any = None
    ) -> Any:
        """The reduced loss.

        Args:
            y_true: labels.
            y_pred: predictions.
            sample_weight: a number, or weights that broadcast with the row losses.
            mask: what Keras attaches to predictions as their mask: non-zero for the rows that
                count.
        """
        library = library_of(y_true=y_true, y_pred=y_pred, sample_weight=sample_weight, mask=mask)
        y_true, y_pred = self._converted(library, y_true, y_pred)
        losses = tensor("losses", self.call(y_true, y_pred), library)
        weight = None
        if sample_weight is not None:
            weight = tensor("sample_weight", sample_weight, library)
        xp = library.namespace(losses, weight)
        with library.quiet():
            result = self._reduced(
                xp,
                xp.widen(losses),
                None if weight is None else xp.widen(weight),
                self._kept(library, y_true, losses, mask),
            )
            own = losses.dtype if self._dtype is None else library.dtype(self._dtype)
            return xp.returned(result, own)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The row losses; a subclass of `Loss` writes this."""
        if self._function is None:
            raise NotImplementedError(f"{type(self).__name__} must define call(y_true, y_pred)")
        return self._function(*self._of_one_rank(y_true, y_pred), **self._options)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this loss again with `from_config`."""
        config = {"name": self.name, "reduction": self.reduction}
        return config | (self._options if self._function else {})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss that `get_config` described, also where Keras wrote the description."""
        return cls(**{key: value for key, value in config.items() if key != "fn"})

    def _kept(self, library: Any, y_true: Any, losses: Any, mask: Any) -> Any:
        """The rows that count by the caller's mask and by the loss' own; None for all."""
        given = None
        if mask is not None:
            mask = numbers("mask", mask, library)
            given = library.namespace(mask).widen(mask) != 0
        own = self._own_mask(y_true, shape_of(losses))
        if given is None or own is None:
            return own if given is None else given
        broadcast(mask=given, y_true=own)
        return given & own

    def _own_mask(self, y_true: Any, rows: Shape) -> Any:
        """The rows that the loss itself counts; a loss that ignores labels overrides this."""
        return None

    @abstractmethod
    def _converted(self, library: Any, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Labels and predictions as arrays of the dtypes that `call` receives."""

    @abstractmethod
    def _of_one_rank(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Labels and predictions after the rank fix."""

    @abstractmethod
    def _reduced(self, xp: Any, losses: Any, weight: Any, mask: Any) -> Any:
        """The row losses, weighted and reduced."""


class Loss(BaseLoss):
    """Base of Keras 3's losses.

    Subclass it and write `call(y_true, y_pred)`, which returns one loss per row.

    Args:
        name: None makes one from the class's name.
        reduction: "sum_over_batch_size" or "mean" (the mean of the row losses),
            "mean_with_sample_weight" (divided by the sum of the weights), "sum", "none" or None.
        dtype: what `y_true` and `y_pred` are converted to, and the result's dtype; None is
            `keras.backend.floatx()`.

    Raises:
        OptionError: a reduction that Keras 3 does not have, such as "auto", or no float dtype.

    Source:
        keras.losses.Loss, Keras 3.15.

    Example:
        >>> import crossent.tf_compat as tf
        >>> class AbsoluteError(tf.keras.losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return abs(y_true - y_pred).mean(axis=-1)
        >>> float(AbsoluteError()([[1.0, 2.0]], [[1.0, 4.0]]))
        1.0
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ):
        self.name = name or _automatic_name(type(self).__name__)
        self.reduction = _reduction.checked_reduction(reduction, _reduction.KERAS_3)
        self._has_own_dtype = dtype is not None
        self._dtype = float_dtype("dtype", SETTINGS.floatx() if dtype is None else dtype)

    @property
    def dtype(self) -> str:
        """The name of the dtype that the loss computes in."""
        return str(self._dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this loss again; the dtype only where one was given."""
        return super().get_config() | ({"dtype": self.dtype} if self._has_own_dtype else {})

    def _converted(self, library: Any, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        y_true, y_pred = converted(library, y_true=y_true, y_pred=y_pred)
        return cast(y_true, self.dtype), cast(y_pred, self.dtype)

    def _of_one_rank(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        return squeezed_or_expanded(y_true, y_pred)

    def _reduced(self, xp: Any, losses: Any, weight: Any, mask: Any) -> Any:
        replicas = replica_count(losses)
        return _reduction.reduced(xp, losses, weight, mask, self.reduction, replicas)


def _automatic_name(class_name: str) -> str:
    """Keras' names for losses without one: snake case, then numbered."""
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in class_name).lstrip("_")
    _unnamed[words] += 1
    count = _unnamed[words] - 1
    return f"{words}_{count}" if count else words
