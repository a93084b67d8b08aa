"""Networks compute in float32 on maps (height, width, channels), whatever Keras's own settings are."""

import keras

DTYPE = "float32"
MAPS = {"dtype": DTYPE, "data_format": "channels_last"}


def network(inputs: keras.KerasTensor, outputs: object, name: str) -> keras.Model:
    """A functional model that computes in float32."""
    model = keras.Model(inputs, outputs, name=name)
    model.dtype_policy = DTYPE
    return model
