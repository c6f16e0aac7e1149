"""TensorFlow's exceptions that its losses raise."""

from crossent.errors import CrossentError
from crossent.tf_compat._absent import absent, public_names

__all__ = ["InvalidArgumentError"]


class InvalidArgumentError(CrossentError, ValueError):
    """What TensorFlow's kernels raise: unequal dtypes, labels out of range, shapes that do not fit.

    TensorFlow's own is no ValueError; this one is, so that code which catches either works.

    Example:
        >>> import crossent.tf_compat as tf
        >>> try:
        ...     tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=[[0.0, 1.0]])
        ... except tf.errors.InvalidArgumentError as error:
        ...     print(error)
        labels must lie in [0, 2); got 2 at row 0. Drop those rows: TensorFlow has no ignored label.
    """


__getattr__ = absent("tf.errors", __name__)
__dir__ = public_names(__name__)
