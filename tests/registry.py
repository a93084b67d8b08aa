"""The attacks that the tests of all attacks go through, each with settings that make it quick."""

import inspect
from functools import partial
from typing import Any

from advlib import attacks

# By their names in advlib.attacks.
ATTACKS: dict[str, partial[Any]] = {
    "fgsm": partial(attacks.fgsm, epsilon=0.2),
    "iterative_fgsm": partial(attacks.iterative_fgsm, epsilon=0.2, step_size=0.03, steps=10),
    "pgd": partial(attacks.pgd, epsilon=0.2, step_size=0.05, steps=5, restarts=2, seed=3),
    "auto_pgd": partial(attacks.auto_pgd, epsilon=0.2, steps=10, seed=3),
    "random_noise": partial(attacks.random_noise, epsilon=0.2, seed=3),
    "gaussian_noise": partial(attacks.gaussian_noise, l2=0.9, seed=3),
    "carlini_wagner": partial(
        attacks.carlini_wagner, steps=20, searches=3, constant=1.0, learning_rate=0.1
    ),
    "square": partial(attacks.square, epsilon=0.2, queries=60, seed=3),
    "jsma": partial(attacks.jsma, max_fraction=0.05),
    "one_pixel": partial(attacks.one_pixel, population=40, generations=4, seed=3),
    "one_pixel_search": partial(attacks.one_pixel_search, levels=2),
}
# Those that these tests cannot call, and why.
EXEMPT = {"adaptive_pgd": "needs a score as well; tests/test_adaptive.py"}

# And the other ways in which some of them work.
EVERY = ATTACKS | {
    "iterative_fgsm, early": partial(ATTACKS["iterative_fgsm"], early_stop=True),
    "auto_pgd, early": partial(ATTACKS["auto_pgd"], early_stop=True, restarts=2),
    "auto_pgd, dlr": partial(ATTACKS["auto_pgd"], loss="dlr"),
    "auto_pgd, l2": partial(ATTACKS["auto_pgd"], norm="l2", epsilon=2.0),
    "square, l2": partial(ATTACKS["square"], norm="l2", epsilon=2.0),
    "jsma, single": partial(ATTACKS["jsma"], search="single"),
    "jsma, lead": partial(ATTACKS["jsma"], search="lead"),
    "one_pixel, many": partial(ATTACKS["one_pixel"], pixels=9, generations=8),
}


def takes(name: str, argument: str) -> bool:
    """Whether the attack has an argument of this name."""
    return argument in inspect.signature(EVERY[name].func).parameters
