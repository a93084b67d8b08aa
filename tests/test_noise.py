"""Random noise, the control: its size, its shape, its seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from advlib import attacks, metrics
from tests.models import linear

MODEL = linear(np.ones((6, 3), np.float32), np.array([1, 0, 0], np.float32), (2, 3, 1))
LABELS = np.zeros(3, int)
tiny = arrays(np.float32, (3, 2, 3, 1), elements=st.floats(0, 1, width=32))


def test_coin_noise_moves_every_pixel_by_epsilon() -> None:
    images = np.full((200, 2, 3, 1), 0.5, np.float32)
    images[:, 0] = 0.9
    labels = np.zeros(200, int)
    result = attacks.random_noise(MODEL, images, labels, epsilon=0.2, seed=4)
    change = result.images - images
    np.testing.assert_allclose(np.abs(change[:, 1]), 0.2, atol=1e-6)
    np.testing.assert_allclose(np.unique(change[:, 0].round(5)), [-0.2, 0.1], atol=1e-5)
    assert abs(np.mean(change[:, 1] > 0) - 0.5) < 0.06
    np.testing.assert_array_equal(result.iterations, np.zeros(200))
    np.testing.assert_array_equal(result.evaluations, np.ones(200))
    assert not np.array_equal(
        result.images, attacks.random_noise(MODEL, images, labels, epsilon=0.2, seed=5).images
    )


@settings(deadline=None)
@given(tiny, st.floats(0, 1), st.integers(0, 99))
def test_gaussian_noise_has_the_length_asked_for(images: np.ndarray, share: float, seed: int) -> None:
    longest = []
    for image in images:  # a length that no pixel's room can hold is refused, and says what it can
        with pytest.raises(ValueError, match=r"l2 must be at most .* got 9") as refusal:
            attacks.gaussian_noise(MODEL, image[None], LABELS[:1], l2=9.0, seed=seed)
        longest.append(float(str(refusal.value).split("at most ")[1].split(" ")[0]))
    # The same noise is drawn for the first image alone and among others.
    l2 = np.array([share * 0.999 * longest[0], 0, 0])
    result = attacks.gaussian_noise(MODEL, images, LABELS, l2=l2, seed=seed)
    assert ((result.images >= 0) & (result.images <= 1)).all()
    np.testing.assert_array_equal(result.images[1:], images[1:])
    np.testing.assert_allclose(metrics.norms(images, result.images).l2, l2, atol=1e-6)


def test_gaussian_noise_is_cut_off_and_made_up_for() -> None:
    # Two of six pixels have no room on one side: with noise toward it they stay, the others go on.
    images = np.full((1000, 2, 3, 1), 0.5, np.float32)
    images[:, 0, 0], images[:, 0, 1] = 0, 1
    labels = np.zeros(1000, int)
    result = attacks.gaussian_noise(MODEL, images, labels, l2=0.1, seed=2)
    change = (result.images - images)[..., 0]
    np.testing.assert_allclose(np.linalg.norm(change, axis=(1, 2)), 0.1, rtol=1e-5)
    for at, side in (((0, 0), 1), ((0, 1), -1)):
        moved = change[:, at[0], at[1]]
        assert (side * moved >= 0).all()
        assert abs(np.mean(moved == 0) - 0.5) < 0.06
    free = change[:, 1]
    assert abs(np.mean(free)) < 0.003
    # Gaussian: of the free pixels' three squares, shares as of independent normal numbers.
    shares = free[:, 0] ** 2 / (free**2).sum(axis=1)
    assert abs(np.mean(shares) - 1 / 3) < 0.03
    assert abs(np.var(shares) - 4 / 45) < 0.015  # of a beta distribution with 1/2 and 1
    np.testing.assert_array_equal(result.success, result.images.sum(axis=(1, 2, 3)) < -1)
    np.testing.assert_array_equal(result.iterations, np.zeros(1000))
    np.testing.assert_array_equal(result.evaluations, np.ones(1000))


@pytest.mark.parametrize("seed", range(20))
def test_gaussian_noise_goes_to_the_very_corner(seed: int) -> None:
    images = np.random.default_rng(100 + seed).random((1, 2, 3, 1), np.float32)
    noise = np.random.default_rng(seed).standard_normal(images.shape)
    ends = (noise > 0).astype(np.float32)
    longest = float(np.linalg.norm((ends - images.astype(np.float64)).ravel()))
    found = attacks.gaussian_noise(MODEL, images, LABELS[:1], l2=longest, seed=seed).images
    np.testing.assert_allclose(found, ends, atol=1e-6)


def test_gaussian_noise_follows_its_seed_alone() -> None:
    images = np.random.default_rng(1).random((9, 2, 3, 1), np.float32)
    labels = np.zeros(9, int)
    whole, again, parts, other = (
        attacks.gaussian_noise(MODEL, images, labels, l2=0.2, seed=seed, batch_size=size).images
        for seed, size in ((1, None), (1, None), (1, 4), (2, None))
    )
    np.testing.assert_array_equal(whole, again)
    np.testing.assert_array_equal(whole, parts)
    assert not np.array_equal(whole, other)
