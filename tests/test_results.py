"""Shipped results: of the shipped weights, and true where that can be looked up."""

import numpy as np
import pytest

from advlib import attacks, data, networks, results

every_data_set = pytest.mark.parametrize("name", data.DIGITS)


@every_data_set
def test_search_is_true(name: str, request: pytest.FixtureRequest) -> None:
    dataset: data.Dataset = request.getfixturevalue(name)
    model = networks.pretrained("classifier", name)
    found = results.one_pixel_search(name)
    right = networks.predict_logits(model, dataset.test_images).argmax(axis=1) == dataset.test_labels
    np.testing.assert_array_equal(found.indices, np.flatnonzero(right)[: results.SEARCHED[name]])
    assert {len(array) for array in found} == {results.SEARCHED[name]}
    # The stored pixel does what is claimed of it.
    painted = dataset.test_images[found.indices].copy()
    flat = painted.reshape(len(painted), -1)
    flat[np.arange(len(flat)), found.places] = found.levels / 255
    labels = dataset.test_labels[found.indices]
    logits = networks.predict_logits(model, painted).astype(np.float64)
    np.testing.assert_array_equal(logits.argmax(axis=1) != labels, found.success)
    own = logits[np.arange(len(labels)), labels]
    others = np.exp(logits - own[:, None]).sum(axis=1) - 1
    np.testing.assert_allclose(np.log(others), found.odds, atol=2e-3)
    np.testing.assert_array_equal(found.hits > 0, found.success)
    assert 0 < found.success.sum() < len(labels) / 10
    # No other pixel does more: searched again for the weakest digit and one more.
    some = [found.odds.argmax(), found.odds.argsort()[len(labels) // 2]]
    again = attacks.one_pixel_search(model, dataset.test_images[found.indices[some]], labels[some])
    np.testing.assert_array_equal(again.success, found.success[some])
    np.testing.assert_allclose(again.odds.max(axis=(1, 2)), found.odds[some], atol=2e-3)
    # Another processor may round a candidate at the border to the other side.
    np.testing.assert_allclose(again.hits.sum(axis=(1, 2)), found.hits[some], rtol=0.01, atol=2)


@every_data_set
def test_evolution_finds_nothing_that_does_not_exist(name: str) -> None:
    found, truth = results.one_pixel(name), results.one_pixel_search(name)
    count = results.EVOLVED[name]
    np.testing.assert_array_equal(found.indices, truth.indices[:count])
    shape = len(results.STRATEGIES), len(results.PIXELS), count
    assert found.success.shape == found.evaluations.shape == shape
    assert not (found.success[:, 0] & ~truth.success[:count]).any()
    assert (found.evaluations[~found.success] == 1 + 400 * 101).all()
    assert (found.evaluations % 400 == 1).all()
    assert found.success.any()


def test_unknown_data_set() -> None:
    for load in (results.one_pixel, results.one_pixel_search):
        with pytest.raises(ValueError, match="name must be one of mnist, digits, got 'cifar'"):
            load("cifar")
