"""`tf_keras`, Keras 2: its losses, the activations before them, and the settings that they read.

TensorFlow 1's `tf.keras` is this one.
"""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.tf_keras import activations, backend, losses

__all__ = ["activations", "backend", "losses"]

__getattr__ = absent("tf_keras", __name__)
__dir__ = public_names(__name__)
