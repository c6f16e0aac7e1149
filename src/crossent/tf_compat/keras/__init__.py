"""`tf.keras`, Keras 3: its losses, the activations before them, and the settings that they read."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.keras import activations, backend, losses

__all__ = ["activations", "backend", "losses"]

__getattr__ = absent("tf.keras", __name__)
__dir__ = public_names(__name__)
