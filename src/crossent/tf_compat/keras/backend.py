"""`keras.backend`: the clipping constant and default dtype of Keras 3's losses."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.keras._loss import SETTINGS

__all__ = ["epsilon", "floatx", "set_epsilon", "set_floatx"]

epsilon = SETTINGS.epsilon
set_epsilon = SETTINGS.set_epsilon
floatx = SETTINGS.floatx
set_floatx = SETTINGS.set_floatx

__getattr__ = absent("tf.keras.backend", __name__)
__dir__ = public_names(__name__)
