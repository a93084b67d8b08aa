"""The classifier: its architecture and its forward pass."""

import keras
import numpy as np

from advlib import data, networks
from advlib.networks import classifier


def test_architecture_is_the_one_described() -> None:
    model = classifier.build()
    assert model.count_params() == 46_346
    assert [weights.shape for weights in model.weights] == [
        *[(3, 3, 1, 16), (16,)],
        *[(3, 3, 16, 32), (32,)],
        *[(3, 3, 32, 64), (64,)],
        *[(6 * 6 * 64, 10), (10,)],
    ]
    shapes = [model.get_layer(name).output.shape for name in ("conv1", "conv2", "conv3", "logits")]
    assert shapes == [(None, 28, 28, 16), (None, 13, 13, 32), (None, 6, 6, 64), (None, 10)]


def test_forward_pass_agrees_with_numpy(digits: data.Dataset, model: keras.Model) -> None:
    x = digits.test_images[:3]
    *convolutions, kernel, bias = model.get_weights()
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # "same" for a 3 x 3 filter with stride 1
    for index, stride in enumerate((1, 2, 2)):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        windows = windows[:, ::stride, ::stride]  # (n, height, width, channels, 3, 3)
        filters, biases = convolutions[2 * index : 2 * index + 2]
        x = np.maximum(np.einsum("nhwcij,ijcf->nhwf", windows, filters) + biases, 0)
    by_hand = x.reshape(len(x), -1) @ kernel + bias
    np.testing.assert_allclose(
        networks.predict_logits(model, digits.test_images[:3]), by_hand, atol=1e-4
    )


def test_seed_decides_the_initial_weights() -> None:
    first, same, other = (classifier.build(seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])
