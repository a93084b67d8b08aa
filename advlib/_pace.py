"""Long computations in pieces, so that they can be stopped and show how far they are."""

import time
from collections.abc import Iterator

import tensorflow as tf
from tqdm import tqdm

# Seconds that a piece should take at most: Ctrl-C is heard between two pieces.
PIECE = 0.25


def bar(description: str) -> tqdm:
    """A progress bar that shows itself after a second; whoever works adds to its total.

    Silent under TQDM_DISABLE=1.
    """
    return tqdm(total=0, desc=description, unit="step", delay=1, leave=False)


def pieces(steps: int, bar: tqdm) -> Iterator[int]:
    """Numbers of steps to take at a time, which add up to `steps`; moves the bar along.

    One step first, then as many as fit into `PIECE` at the speed of the last ones, but no more than
    eight times as many. What is computed must not depend on how it is cut.
    """
    size, left = 1, steps
    while left:
        size = min(size, left)
        start = time.perf_counter()
        yield size
        tf.test.experimental.sync_devices()  # a GPU may still be at it
        seconds = time.perf_counter() - start
        left -= size
        bar.update(size)
        size = max(1, min(8 * size, int(size * PIECE / max(seconds, 1e-6))))
