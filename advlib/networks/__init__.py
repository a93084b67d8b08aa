"""Networks: build them, load what is shipped, ask them and look inside."""

from advlib.networks import classifier, vae
from advlib.networks._reading import (
    activations,
    correctly_classified,
    extractor,
    predict_logits,
    without_softmax,
)
from advlib.networks._shipped import SHIPPED, Shipped, latents, pretrained, shipped

__all__ = [
    "SHIPPED",
    "Shipped",
    "activations",
    "classifier",
    "correctly_classified",
    "extractor",
    "latents",
    "predict_logits",
    "pretrained",
    "shipped",
    "vae",
    "without_softmax",
]
