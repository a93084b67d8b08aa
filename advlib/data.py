r"""The data sets: the official ones, checked by hash wherever they come from, and a small embedded one.

Images are float32 on the pixel scale [0, 1] with shape (n, 28, 28, 1); labels are int64 from 0 to 9.

MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017, https://arxiv.org/abs/1708.07747) come
from the first of these that applies:

1. the folder that `ADVLIB_DATA_DIR` names, as `mnist.npz` or `fashion_mnist.npz`: where it is set, it is
   the only source;
2. Keras's cache, `~/.keras/datasets` (or below `KERAS_HOME`), where there is a home folder;
3. a download through Keras, kept in that cache;
4. a download from OpenML, kept there too.

`ADVLIB_DATASET=digits` chooses scikit-learn's UCI digits (Alpaydin and Kaynak 1998) in the place of
MNIST, which need no network.
"""

import gzip
import hashlib
import os
import socket
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split

from advlib._checks import check_images, check_integer

# Those that the chapters run on, of which `ADVLIB_DATASET` is one.
DIGITS = ("mnist", "digits")


@dataclass(frozen=True)
class Official:
    """A published data set: what it is, and where it is had.

    Attributes
    ----------
    title : str
        Its name for people.
    classes : tuple of str
        What each label stands for.
    arrays : dict from a key of the `.npz` to (shape, SHA-256 of the C-ordered bytes)
        All of uint8.
    keras_files : tuple of str
        Keras's own files below its folder of data sets: one `.npz`, or the four idx files.
    origin : str
        The address in which Keras finds them.
    openml : str
        Its name in OpenML, version 1.
    """

    title: str
    classes: tuple[str, ...]
    arrays: dict[str, tuple[tuple[int, ...], str]]
    keras_files: tuple[str, ...]
    origin: str
    openml: str


KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
OFFICIAL = {
    "mnist": Official(
        title="MNIST",
        classes=tuple("0123456789"),
        arrays={
            "x_train": (
                (60000, 28, 28),
                "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            ),
            "y_train": ((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
            "x_test": (
                (10000, 28, 28),
                "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            ),
            "y_test": ((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
        },
        keras_files=("mnist.npz",),
        origin=KERAS,
        openml="mnist_784",
    ),
    "fashion_mnist": Official(
        title="Fashion-MNIST",
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        arrays={
            "x_train": (
                (60000, 28, 28),
                "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
            ),
            "y_train": ((60000,), "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7"),
            "x_test": (
                (10000, 28, 28),
                "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
            ),
            "y_test": ((10000,), "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9"),
        },
        keras_files=(
            "fashion-mnist/train-images-idx3-ubyte.gz",
            "fashion-mnist/train-labels-idx1-ubyte.gz",
            "fashion-mnist/t10k-images-idx3-ubyte.gz",
            "fashion-mnist/t10k-labels-idx1-ubyte.gz",
        ),
        origin=KERAS,
        openml="Fashion-MNIST",
    ),
}
NAMES = (*OFFICIAL, "digits")
TIMEOUT_SECONDS = 30

Arrays = dict[str, np.ndarray]


class DataUnavailableError(OSError):
    """A data set could not be had from any source; the message lists each and why it failed."""


@dataclass(frozen=True)
class Dataset:
    """Training and test images.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    title : str
        The data set's name for people.
    train_images, test_images : array, float32, (n, 28, 28, 1)
        Pixel scale [0, 1]. Read-only.
    train_labels, test_labels : array, int64, (n,)
        From 0 to 9. Read-only.
    classes : tuple of str
        What each label stands for.
    """

    name: str
    title: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...] = tuple("0123456789")

    def __post_init__(self) -> None:
        # Every chapter and every attack works on these arrays: a stray in-place edit must raise.
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            array.setflags(write=False)

    def __str__(self) -> str:
        _, height, width, _ = self.train_images.shape
        kind = "digits" if self.name in DIGITS else "images"
        return (
            f"{self.title}: {len(self.train_images):,} training and {len(self.test_images):,} "
            f"test {kind} of {height} × {width} pixels"
        )


def load(name: str | None = None, *, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a data set, from the first source that has it.

    Parameters
    ----------
    name : {"mnist", "fashion_mnist", "digits"}, optional
        The data set; without it the environment variable `ADVLIB_DATASET`, which may be "mnist" or
        "digits", else "mnist".
    data_dir : path, optional
        A folder that holds `mnist.npz` or `fashion_mnist.npz`, `~` being the home folder; without it the
        environment variable `ADVLIB_DATA_DIR`.
        Where one is given, it is the only source: a wrong file there is an error. Not for "digits".

    Returns
    -------
    Dataset
        float32 images (n, 28, 28, 1) in [0, 1] and int64 labels.

    Raises
    ------
    ValueError
        If the name is unknown, the folder does not hold an intact file, or a folder is given for a data
        set that is not read from one.
    DataUnavailableError
        If no source could be reached.
    """
    origin, known = "name", NAMES
    if name is None:
        name, origin, known = os.environ.get("ADVLIB_DATASET") or "mnist", "ADVLIB_DATASET", DIGITS
    if name not in known:
        raise ValueError(f"{origin} must be one of {', '.join(known)}, got {name!r}")
    if name == "digits":
        if data_dir is not None:
            raise ValueError(f"data_dir is for {', '.join(OFFICIAL)}, got {data_dir!r} with digits")
        return _load_digits()

    origin = "data_dir"
    if data_dir is None:
        data_dir, origin = os.environ.get("ADVLIB_DATA_DIR") or None, "ADVLIB_DATA_DIR"
    if data_dir is None:
        return _as_dataset(name, _find(name))
    path = Path(os.path.expanduser(data_dir)) / f"{name}.npz"
    try:
        return _as_dataset(name, _read(name, path))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{origin} must be a folder that holds an intact {path.name}, got {data_dir!r}: {error}"
        ) from error


def _find(name: str) -> Arrays:
    """Try Keras's cache, then the two downloads, and keep what was downloaded."""
    official = OFFICIAL[name]
    folder = _cache_folder()
    cached = folder and folder / f"{name}.npz"
    try:
        if folder is None or cached is None:
            raise FileNotFoundError("this user has no home folder, and KERAS_HOME is not set")
        if not cached.exists() and (folder / official.keras_files[0]).exists():
            return _read_idx(name, folder)  # as Keras itself keeps it
        return _read(name, cached)
    except (OSError, ValueError) as error:
        failures = [f"Keras's cache: {error}"]
    downloads = {
        f"download through Keras from {official.origin}": _download_from_keras,
        f"download from OpenML, data set {official.openml}": _download_from_openml,
    }
    for source, download in downloads.items():
        try:
            arrays = download(name)
        # Keras raises a bare Exception when a download fails; each reason is kept and shown.
        except Exception as error:
            failures.append(f"{source}: {str(error) or type(error).__name__}")
            continue
        if cached is not None:
            _keep(name, arrays, cached)
        return arrays
    tried = "\n".join(f"  - {line}" for line in ["ADVLIB_DATA_DIR: not set", *failures])
    way_out = f"put {name}.npz into a folder and set ADVLIB_DATA_DIR to it"
    if name == "mnist":
        way_out = (
            f"Two ways out: {way_out}, or set ADVLIB_DATASET=digits to run on scikit-learn's small "
            "digits, which need no network."
        )
    else:
        way_out = f"A way out: {way_out}."
    raise DataUnavailableError(
        f"{official.title} could not be had. Tried, in this order:\n{tried}\n{way_out}"
    )


def _cache_folder() -> Path | None:
    """Where Keras keeps data sets; None for a user without a home folder, as in a container."""
    home = Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"))
    return None if str(home).startswith("~") else home / "datasets"


def _read(name: str, path: Path) -> Arrays:
    """Read an `.npz` file and verify it. Leaves the file as it is, whatever it holds."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in OFFICIAL[name].arrays}
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except PermissionError:
        raise
    # A damaged file makes NumPy raise almost anything (BadZipFile, zlib.error, KeyError, TypeError).
    except Exception as error:
        raise ValueError(f"{path} is not a complete {OFFICIAL[name].title} file ({error})") from error
    return _verify(name, arrays, str(path))


def _read_idx(name: str, folder: Path) -> Arrays:
    """Read the four idx files, images and labels to train on and to test on, and verify them."""
    arrays = {}
    for file, (key, (shape, _)) in zip(
        OFFICIAL[name].keras_files, OFFICIAL[name].arrays.items(), strict=True
    ):
        path = folder / file
        header = 4 + 4 * len(shape)  # a magic number and the lengths of the axes, 4 bytes each
        try:
            pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
            arrays[key] = pixels.reshape(shape)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no file {path}") from None
        # What gzip and NumPy say of a damaged file.
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ValueError(
                f"{path} is not a complete file of {OFFICIAL[name].title} ({error})"
            ) from error
    return _verify(name, arrays, str(folder / Path(OFFICIAL[name].keras_files[0]).parent))


def _verify(name: str, arrays: Arrays, source: str) -> Arrays:
    """Return the arrays when each has the published SHA-256."""
    for key, (shape, sha256) in OFFICIAL[name].arrays.items():
        array = arrays[key]
        if array.dtype != np.uint8 or array.shape != shape:
            raise ValueError(f"{key} of {source} must be uint8 {shape}, got {array.dtype} {array.shape}")
        found = hashlib.sha256(array.tobytes()).hexdigest()
        if found != sha256:
            title = OFFICIAL[name].title
            raise ValueError(f"{key} of {source} has SHA-256 {found}, {title}'s is {sha256}")
    return arrays


def _download_from_keras(name: str) -> Arrays:
    from keras.utils import get_file  # TensorFlow takes seconds, which nobody else here needs

    # Into a folder that vanishes: an interrupted or wrong download never reaches the cache.
    with tempfile.TemporaryDirectory() as folder, _socket_timeout(TIMEOUT_SECONDS):
        official = OFFICIAL[name]
        for file in official.keras_files:
            below, _, last = file.rpartition("/")
            path = get_file(last, official.origin + last, cache_dir=folder, cache_subdir=below)
        return (
            _read_idx(name, Path(folder)) if len(official.keras_files) > 1 else _read(name, Path(path))
        )


def _download_from_openml(name: str) -> Arrays:
    official = OFFICIAL[name]
    with (
        tempfile.TemporaryDirectory() as folder,
        _socket_timeout(TIMEOUT_SECONDS),
        warnings.catch_warnings(action="ignore"),  # "retrying": the failure itself is reported
    ):
        table: Any = fetch_openml(
            official.openml, version=1, as_frame=False, data_home=folder, n_retries=1
        )
    pixels = table.data.reshape(-1, 28, 28).astype(np.uint8)
    labels = table.target.astype(np.uint8)
    split = official.arrays["x_train"][0][0]  # OpenML keeps the original order
    arrays = {
        "x_train": pixels[:split],
        "y_train": labels[:split],
        "x_test": pixels[split:],
        "y_test": labels[split:],
    }
    return _verify(name, arrays, f"OpenML's {official.openml}")


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bound every wait for the network: neither Keras nor scikit-learn lets a caller do so."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _keep(name: str, arrays: Arrays, path: Path) -> None:
    """Write verified arrays to the cache in one step; a damaged file there is kept beside it."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{name}-", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        if path.exists() and not _is_intact(name, path):
            path.replace(path.with_suffix(".npz.rejected"))
        os.replace(part, path)
    except OSError as error:
        warnings.warn(
            f"{OFFICIAL[name].title} was downloaded but could not be kept: {error}", stacklevel=4
        )
    finally:  # also when interrupted
        if part is not None:
            Path(part).unlink(missing_ok=True)


def _is_intact(name: str, path: Path) -> bool:
    try:
        _read(name, path)
    except (OSError, ValueError):
        return False
    return True


def _as_dataset(name: str, arrays: Arrays) -> Dataset:
    return Dataset(
        name,
        OFFICIAL[name].title,
        _unit_scale(arrays["x_train"]),
        arrays["y_train"].astype(np.int64),
        _unit_scale(arrays["x_test"]),
        arrays["y_test"].astype(np.int64),
        OFFICIAL[name].classes,
    )


def _unit_scale(pixels: np.ndarray) -> np.ndarray:
    """uint8 (n, 28, 28), 0 to 255, to float32 (n, 28, 28, 1), 0 to 1."""
    return (pixels.astype(np.float32) / np.float32(255))[..., None]


def quantize(images: np.ndarray, *, levels: int = 256) -> np.ndarray:
    """Round images to evenly spaced grey levels, as an image file does.

    Parameters
    ----------
    images : array, float32, (n, height, width, channels)
        Pixel scale [0, 1]. Never modified.
    levels : int
        From 0 to 1, both included. An 8-bit file has 256.

    Returns
    -------
    array, float32, of the same shape
        Images that were stored with so many levels are returned as they are, to the bit.

    Raises
    ------
    ValueError
        If the images are not of that form, or there are fewer than 2 levels.
    """
    images = check_images(images)
    steps = np.float32(check_integer(levels, "levels", low=2) - 1)
    return np.round(images * steps) / steps


def _load_digits() -> Dataset:
    """scikit-learn's UCI digits in MNIST's form: a 20 × 20 digit centred in 28 × 28 pixels."""
    table: Any = load_digits()
    small = table.images.astype(np.float32) / np.float32(16)  # (1797, 8, 8), 0 to 16 -> 0 to 1
    # Bilinear, pixels as areas: stays within [0, 1] and keeps the share of ink.
    digits = zoom(small, (1, 2.5, 2.5), order=1, mode="nearest", grid_mode=True)
    images = np.pad(digits, ((0, 0), (4, 4), (4, 4)))[..., None]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, table.target.astype(np.int64), test_size=500, stratify=table.target, random_state=42
    )
    return Dataset("digits", "UCI digits", train_images, train_labels, test_images, test_labels)
