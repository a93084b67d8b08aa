"""Attacks: functions from a model and images to an `AttackResult`.

Any Keras model that maps float32 (n, height, width, channels) in [0, 1] to logits (n, classes) can
be attacked: grey or colour, any size, any number of classes. Images are attacked in batches, on
whatever device TensorFlow uses. The first attack on a model compiles it; the next ones use what was
compiled as long as the model is what it was, and compile it again where it was changed. Before an attack
the model is asked whether it answers with logits, and the same ones each time; after it, whether what
the record calls a success is one. Ctrl-C ends an attack within a second.
"""

from advlib.attacks._result import AttackResult, Trace, concatenate
from advlib.attacks.adaptive import adaptive_pgd
from advlib.attacks.auto import auto_pgd
from advlib.attacks.carlini import carlini_wagner
from advlib.attacks.gradient_sign import fgsm, iterative_fgsm, pgd
from advlib.attacks.levels import quantized
from advlib.attacks.noise import gaussian_noise, random_noise
from advlib.attacks.pixel_search import PixelSearchResult, one_pixel, one_pixel_search
from advlib.attacks.saliency import jsma
from advlib.attacks.squares import square

__all__ = [
    "AttackResult",
    "PixelSearchResult",
    "Trace",
    "adaptive_pgd",
    "auto_pgd",
    "carlini_wagner",
    "concatenate",
    "fgsm",
    "gaussian_noise",
    "iterative_fgsm",
    "jsma",
    "one_pixel",
    "one_pixel_search",
    "pgd",
    "quantized",
    "random_noise",
    "square",
]
