"""Which distribution scope is active: Keras' losses ask for its replica count."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_replicas: ContextVar[int | None] = ContextVar("replicas", default=None)


def replica_count(losses: Any = None) -> int | None:
    """Replicas of the strategy whose scope is active in this thread; None outside of any scope.

    TensorFlow's own scopes count for losses that are its tensors.
    """
    if _replicas.get() is None and type(losses).__module__.partition(".")[0] == "tensorflow":
        distribute = sys.modules["tensorflow"].distribute
        if distribute.has_strategy():
            return int(distribute.get_strategy().num_replicas_in_sync)
    return _replicas.get()


class MirroredStrategy:
    """Stand-in for TensorFlow's strategy: losses see its replica count, nothing is distributed.

    Keras 3 divides mean-type losses by the count inside its scope; Keras 2 refuses them there,
    because each replica would divide by its own part of the batch.

    Args:
        devices: names of the devices, one replica each; None is one replica.

    Example:
        >>> import crossent.tf_compat as tf
        >>> strategy = tf.distribute.MirroredStrategy(["GPU:0", "GPU:1"])
        >>> with strategy.scope():
        ...     strategy.num_replicas_in_sync
        2
    """

    def __init__(self, devices: Sequence[str] | None = None, cross_device_ops: object = None):
        self.num_replicas_in_sync = len(devices) if devices else 1

    @contextmanager
    def scope(self) -> Iterator["MirroredStrategy"]:
        """Context in which losses see this strategy's replica count."""
        token = _replicas.set(self.num_replicas_in_sync)
        try:
            yield self
        finally:
            _replicas.reset(token)
