"""Results of computations that take too long for a chapter, shipped with the package.

`tools/weights.py` computes them again, from the shipped weights of the network.
"""

import json
from importlib.resources import files
from typing import Literal, NamedTuple

import numpy as np

# Which digits: the first test digits that the network reads correctly, so many.
SEARCHED = {"mnist": 1000, "digits": 100}
EVOLVED = {"mnist": 100, "digits": 10}
STRATEGIES: tuple[Literal["rand1"], Literal["best1"]] = ("rand1", "best1")
PIXELS = (1, 3, 5, 10)
SEED = 0


class PixelSearch(NamedTuple):
    """What `attacks.one_pixel_search` found for n test digits: arrays (n,).

    Attributes
    ----------
    indices : integer
        Of the digits among the test digits.
    success : bool
        Whether a one-pixel adversarial example exists.
    odds : float64
        The largest log-odds against the true class that one pixel can reach.
    hits : integer
        How many of the candidates succeed.
    places : integer
        Where the best candidate has changed the digit, row × 28 + column.
    levels : integer
        To which grey level of 255.
    """

    indices: np.ndarray
    success: np.ndarray
    odds: np.ndarray
    hits: np.ndarray
    places: np.ndarray
    levels: np.ndarray


class Evolution(NamedTuple):
    """What `attacks.one_pixel`, with its defaults but for the strategy, found for n test digits.

    Attributes
    ----------
    indices : array, integer, (n,)
        Of the digits among the test digits.
    success : array, bool, (2, 4, n)
        For each of `STRATEGIES` and each number of pixels in `PIXELS`.
    evaluations : array, integer, (2, 4, n)
    """

    indices: np.ndarray
    success: np.ndarray
    evaluations: np.ndarray


def one_pixel_search(name: str = "mnist") -> PixelSearch:
    """Load what the search of every pixel and grey level found.

    Parameters
    ----------
    name : {"mnist", "digits"}
        The data set: `Dataset.name`.

    Returns
    -------
    PixelSearch

    Raises
    ------
    ValueError
        If no results are shipped for `name`.
    """
    return PixelSearch(**_load("one_pixel_search", name))


def one_pixel(name: str = "mnist") -> Evolution:
    """Load what the evolution of the paper's length found.

    Parameters
    ----------
    name : {"mnist", "digits"}
        The data set: `Dataset.name`.

    Returns
    -------
    Evolution

    Raises
    ------
    ValueError
        If no results are shipped for `name`.
    """
    return Evolution(**_load("one_pixel", name))


def _load(kind: str, name: str) -> dict[str, np.ndarray]:
    if name not in SEARCHED:
        raise ValueError(f"name must be one of {', '.join(SEARCHED)}, got {name!r}")
    stored = files("advlib") / "weights" / f"{kind}_{name}.json"
    columns = json.loads(stored.read_text(encoding="utf-8"))
    return {key: np.array(values) for key, values in columns.items()}
