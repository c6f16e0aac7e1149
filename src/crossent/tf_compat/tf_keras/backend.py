"""`tf_keras.backend`: the clipping constant and default dtype of Keras 2, apart from Keras 3's."""

from crossent.tf_compat._absent import absent, public_names
from crossent.tf_compat.tf_keras._functions import SETTINGS

__all__ = ["epsilon", "floatx", "set_epsilon", "set_floatx"]

epsilon = SETTINGS.epsilon
set_epsilon = SETTINGS.set_epsilon
floatx = SETTINGS.floatx
set_floatx = SETTINGS.set_floatx

__getattr__ = absent("tf_keras.backend", __name__)
__dir__ = public_names(__name__)
