"""Data sets: their form, their sources in order, and what happens when a source fails."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from advlib import data


@pytest.fixture
def name() -> str:
    """The data set that most tests are about."""
    return "mnist"


@pytest.fixture
def tiny(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> data.Arrays:
    """Stand-in arrays with hashes of their own; nothing chosen, nothing cached, nothing reachable."""
    rng = np.random.default_rng(0)
    arrays: data.Arrays = {}
    for key, count in {"train": 20, "test": 10}.items():
        arrays[f"x_{key}"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"y_{key}"] = rng.integers(0, 10, count, dtype=np.uint8)
    published = {
        key: (array.shape, hashlib.sha256(array.tobytes()).hexdigest()) for key, array in arrays.items()
    }
    nowhere = replace(
        data.OFFICIAL[name], arrays=published, origin=(tmp_path / "nowhere").as_uri() + "/"
    )
    monkeypatch.setitem(data.OFFICIAL, name, nowhere)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("ADVLIB_DATA_DIR", raising=False)
    monkeypatch.delenv("ADVLIB_DATASET", raising=False)
    monkeypatch.setattr(data, "fetch_openml", unreachable)
    return arrays


def unreachable(*_: Any, **__: Any) -> Any:
    raise OSError("no route to OpenML")


def cache(tmp_path: Path) -> Path:
    return tmp_path / "keras" / "datasets" / "mnist.npz"


def write(path: Path, arrays: data.Arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def as_openml(arrays: data.Arrays) -> Callable[..., Any]:
    pixels = np.concatenate([arrays["x_train"], arrays["x_test"]]).reshape(-1, 784).astype(float)
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(str).astype(object)
    return lambda *_, **__: types.SimpleNamespace(data=pixels, target=labels)


def same(dataset: data.Dataset, arrays: data.Arrays) -> bool:
    return np.array_equal(dataset.train_images[..., 0] * 255, arrays["x_train"]) and np.array_equal(
        dataset.test_labels, arrays["y_test"]
    )


@pytest.mark.parametrize("name", data.NAMES)
def test_form(name: str, request: pytest.FixtureRequest) -> None:
    dataset: data.Dataset = request.getfixturevalue(name)
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert images.dtype == np.float32
        assert images.shape == (len(labels), 28, 28, 1)
        assert images.min() == 0
        assert images.max() == 1
        assert labels.dtype == np.int64
        assert set(labels) == set(range(10))
        with pytest.raises(ValueError, match="read-only"):
            images[0] = 0


@pytest.mark.parametrize(
    ("name", "mean", "deviation"), [("mnist", 0.13066, 0.30811), ("fashion_mnist", 0.28604, 0.35302)]
)
def test_published_mean_and_deviation(
    name: str, mean: float, deviation: float, request: pytest.FixtureRequest
) -> None:
    dataset: data.Dataset = request.getfixturevalue(name)
    assert dataset.train_images.mean(dtype=np.float64) == pytest.approx(mean, abs=5e-6)
    assert dataset.train_images.std(dtype=np.float64) == pytest.approx(deviation, abs=5e-6)
    assert len(dataset.train_images) == 60000
    assert len(dataset.test_images) == 10000


def test_classes_have_names(fashion_mnist: data.Dataset, digits: data.Dataset) -> None:
    assert digits.classes == tuple("0123456789")
    assert len(fashion_mnist.classes) == 10
    # Trousers are the tall and narrow ones: the outermost columns stay empty.
    ink = [fashion_mnist.train_images[fashion_mnist.train_labels == k, :, :6].mean() for k in range(10)]
    assert fashion_mnist.classes[int(np.argmin(ink))] == "Trouser"
    assert str(fashion_mnist).startswith("Fashion-MNIST: 60,000 training and 10,000 test images of 28")


def test_digits_are_the_embedded_ones_enlarged(digits: data.Dataset) -> None:
    table = load_digits()
    assert len(digits.train_images) + len(digits.test_images) == len(table.images)
    # Mean ink per class survives the enlargement; the 20 x 20 digit lies inside a margin of 4.
    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    for k in range(10):
        small = table.images[table.target == k].mean() / 16
        assert images[labels == k, 4:24, 4:24].mean() == pytest.approx(small, rel=0.1)
    assert images[:, :4].max() == images[:, 24:].max() == 0
    assert np.array_equal(data.load("digits").train_images, digits.train_images)


def test_environment_names_the_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLIB_DATASET", "digits")
    assert data.load().name == "digits"
    assert "UCI digits" in str(data.load())


@pytest.mark.parametrize("name", ["", "MNIST", "cifar10"])
def test_unknown_name(name: str) -> None:
    with pytest.raises(ValueError, match="name must be one of mnist, fashion_mnist, digits"):
        data.load(name)


def test_unknown_name_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVLIB_DATASET", "fashion")
    with pytest.raises(ValueError, match="ADVLIB_DATASET must be one of mnist, digits, got 'fashion'"):
        data.load()


def test_a_folder_is_refused_for_the_embedded_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data_dir is for mnist, fashion_mnist, got .* with digits"):
        data.load("digits", data_dir=tmp_path)


def test_folder_comes_first(tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {key: np.zeros_like(array) for key, array in tiny.items()}
    write(cache(tmp_path), other)
    folder = write(tmp_path / "folder" / "mnist.npz", tiny).parent
    monkeypatch.setenv("ADVLIB_DATA_DIR", str(folder))
    assert same(data.load(), tiny)
    assert same(data.load(data_dir=folder), tiny)


@pytest.mark.parametrize(
    "content", [None, b"", b"not a zip file", "half", "wrong", "incomplete", "one array", "bit flip"]
)
def test_bad_folder_is_an_error_and_keeps_its_file(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str | None
) -> None:
    path = tmp_path / "folder" / "mnist.npz"
    if content is not None:
        write(path, tiny)
        if content == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif content == "wrong":
            write(path, tiny | {"y_test": (tiny["y_test"] + 1) % 10})
        elif content == "one array":
            with path.open("wb") as file:
                np.save(file, tiny["x_train"])
        elif content == "bit flip":
            damaged = bytearray(path.read_bytes())
            damaged[200:260] = bytes(byte ^ 0xFF for byte in damaged[200:260])
            path.write_bytes(damaged)
        elif content == "incomplete":
            write(path, {"x_train": tiny["x_train"]})
        elif isinstance(content, bytes):
            path.write_bytes(content)
    before = path.read_bytes() if path.exists() else None
    write(cache(tmp_path), tiny)  # a good cache must not hide the bad folder
    with pytest.raises(ValueError, match="data_dir must be a folder that holds an intact"):
        data.load(data_dir=path.parent)
    monkeypatch.setenv("ADVLIB_DATA_DIR", str(path.parent))
    with pytest.raises(ValueError, match="ADVLIB_DATA_DIR must be a folder"):
        data.load()
    assert (path.read_bytes() if path.exists() else None) == before


def test_cache_comes_before_downloads(tiny: data.Arrays, tmp_path: Path) -> None:
    write(cache(tmp_path), tiny)
    assert same(data.load(), tiny)


def test_download_through_keras_is_kept(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = write(tmp_path / "nowhere" / "mnist.npz", tiny)
    assert same(data.load(), tiny)
    served.unlink()
    assert same(data.load(), tiny)
    assert os.listdir(cache(tmp_path).parent) == ["mnist.npz"]


def test_openml_comes_last_and_is_kept(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "fetch_openml", as_openml(tiny))
    assert same(data.load(), tiny)
    monkeypatch.setattr(data, "fetch_openml", unreachable)
    assert same(data.load(), tiny)


def test_corrupt_cache_is_set_aside_once_a_download_succeeds(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    with pytest.raises(data.DataUnavailableError, match="not a complete MNIST file"):
        data.load()
    assert path.read_bytes() == b"half a file"
    monkeypatch.setattr(data, "fetch_openml", as_openml(tiny))
    assert same(data.load(), tiny)
    assert path.with_suffix(".npz.rejected").read_bytes() == b"half a file"
    assert sorted(os.listdir(path.parent)) == ["mnist.npz", "mnist.npz.rejected"]


def test_a_cache_that_another_process_filled_meanwhile_is_kept(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: Any, **__: Any) -> Any:
        write(cache(tmp_path), tiny)
        return as_openml(tiny)()

    monkeypatch.setattr(data, "fetch_openml", meanwhile)
    assert same(data.load(), tiny)
    assert os.listdir(cache(tmp_path).parent) == ["mnist.npz"]


@pytest.mark.parametrize("source", ["keras", "openml"])
def test_wrong_download_never_reaches_the_cache(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    wrong = tiny | {"x_train": 255 - tiny["x_train"]}
    if source == "keras":
        write(tmp_path / "nowhere" / "mnist.npz", wrong)
    else:
        monkeypatch.setattr(data, "fetch_openml", as_openml(wrong))
    with pytest.raises(data.DataUnavailableError, match="has SHA-256"):
        data.load()
    assert not cache(tmp_path).parent.exists()


def test_interrupted_download_never_reaches_the_cache(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, origin: str, *, cache_dir: str, cache_subdir: str) -> str:
        Path(cache_dir, name).write_bytes(b"the first half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils, "get_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load()
    assert not cache(tmp_path).parent.exists()


def test_interrupted_while_it_is_kept_leaves_nothing_behind(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: Any, **_: Any) -> None:
        file.write(b"the first half")
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "fetch_openml", as_openml(tiny))
    monkeypatch.setattr(np, "savez_compressed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.load()
    assert os.listdir(cache(tmp_path).parent) == []


def test_nothing_reachable_lists_every_source_and_the_ways_out(
    tiny: data.Arrays, tmp_path: Path
) -> None:
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load()
    message = str(caught.value)
    for part in (
        "ADVLIB_DATA_DIR: not set",
        f"Keras's cache: there is no file {cache(tmp_path)}",
        f"download through Keras from {(tmp_path / 'nowhere').as_uri()}/: URL fetch failure",
        "download from OpenML, data set mnist_784: no route to OpenML",
        "put mnist.npz into a folder and set ADVLIB_DATA_DIR to it",
        "set ADVLIB_DATASET=digits",
    ):
        assert part in message
    assert not cache(tmp_path).parent.exists()


def test_a_cache_that_cannot_be_written_is_said(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "fetch_openml", as_openml(tiny))
    (tmp_path / "keras").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert same(data.load(), tiny)


@pytest.mark.parametrize("way", ["argument", "variable", "path object"])
def test_a_folder_below_home(
    way: str, tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "home" / "digits" / "mnist.npz", tiny)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if way == "variable":
        monkeypatch.setenv("ADVLIB_DATA_DIR", "~/digits")
        assert same(data.load(), tiny)
    else:
        assert same(data.load(data_dir="~/digits" if way == "argument" else Path("~/digits")), tiny)


@pytest.mark.parametrize("keras_home", [None, "~/elsewhere"])
def test_keras_s_cache_below_home(
    keras_home: str | None, tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if keras_home is None:
        monkeypatch.delenv("KERAS_HOME")
    else:
        monkeypatch.setenv("KERAS_HOME", keras_home)
    write(tmp_path / ("elsewhere" if keras_home else ".keras") / "datasets" / "mnist.npz", tiny)
    assert same(data.load(), tiny)


def test_a_user_without_a_home_folder(
    tiny: data.Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_HOME")
    # What it gives where neither HOME nor the list of users has one.
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataUnavailableError, match=r"Keras's cache: this user has no home folder"):
        data.load()
    monkeypatch.setattr(data, "fetch_openml", as_openml(tiny))
    assert same(data.load(), tiny)  # not kept, and no warning
    assert not list(tmp_path.glob("~*"))


# --- Fashion-MNIST, which Keras keeps in four files --------------------------------------------------

fashion = pytest.mark.parametrize("name", ["fashion_mnist"])


def write_idx(folder: Path, arrays: data.Arrays) -> list[Path]:
    """What Keras keeps: each array behind a header, packed."""
    paths = []
    for file, array in zip(data.OFFICIAL["fashion_mnist"].keras_files, arrays.values(), strict=True):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        header = np.array([2048 + array.ndim, *array.shape], ">i4").tobytes()
        path.write_bytes(gzip.compress(header + array.tobytes()))
        paths.append(path)
    return paths


@fashion
def test_fashion_in_a_folder(tiny: data.Arrays, name: str, tmp_path: Path) -> None:
    write(tmp_path / "folder" / "fashion_mnist.npz", tiny)
    assert same(data.load(name, data_dir=tmp_path / "folder"), tiny)
    with pytest.raises(ValueError, match=r"holds an intact mnist\.npz"):
        data.load("mnist", data_dir=tmp_path / "folder")


@fashion
def test_one_data_set_in_the_file_of_another(tiny: data.Arrays, name: str, tmp_path: Path) -> None:
    write(tmp_path / "mnist.npz", tiny)
    with pytest.raises(ValueError, match=r"intact mnist\.npz.*x_train of .* must be uint8 \(60000, 28"):
        data.load("mnist", data_dir=tmp_path)


@fashion
def test_keras_s_own_files_are_found(tiny: data.Arrays, name: str, tmp_path: Path) -> None:
    write_idx(tmp_path / "keras" / "datasets", tiny)
    found = data.load(name)
    assert same(found, tiny)
    np.testing.assert_array_equal(found.train_labels, tiny["y_train"])
    np.testing.assert_array_equal(found.test_images[..., 0] * 255, tiny["x_test"])


@fashion
def test_fashion_through_keras_is_kept(tiny: data.Arrays, name: str, tmp_path: Path) -> None:
    for path in write_idx(tmp_path, tiny):
        (tmp_path / "nowhere").mkdir(exist_ok=True)
        path.rename(tmp_path / "nowhere" / path.name)
    assert same(data.load(name), tiny)
    assert os.listdir(tmp_path / "keras" / "datasets") == ["fashion_mnist.npz"]
    shutil.rmtree(tmp_path / "nowhere")
    assert same(data.load(name), tiny)


@fashion
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("fault", ["half", "missing", "wrong", "no gzip"])
def test_a_damaged_file_of_keras_s_is_refused(
    tiny: data.Arrays, name: str, tmp_path: Path, which: int, fault: str
) -> None:
    path = write_idx(tmp_path / "keras" / "datasets", tiny)[which]
    if fault == "half":
        path.write_bytes(path.read_bytes()[:-20])
    elif fault == "missing":
        path.unlink()
    elif fault == "wrong":
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[-1] ^= 1
        path.write_bytes(gzip.compress(bytes(content)))
    else:
        path.write_bytes(b"nothing that gzip knows")
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(
        data.DataUnavailableError, match=r"(?s)Fashion-MNIST could not.*Keras's cache: .*"
    ):
        data.load(name)
    assert (path.read_bytes() if path.exists() else None) == before


@fashion
def test_fashion_from_openml(
    tiny: data.Arrays, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def openml(asked_for: str, **_: Any) -> Any:
        asked.append(asked_for)
        return as_openml(tiny)()

    monkeypatch.setattr(data, "fetch_openml", openml)
    assert same(data.load(name), tiny)
    assert asked == ["Fashion-MNIST"]


def test_loading_needs_no_tensorflow(root: Path) -> None:
    code = "import sys; from advlib import data; data.load('digits'); print('tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_stored_images_have_256_levels(dataset: str, request: pytest.FixtureRequest) -> None:
    images = request.getfixturevalue(dataset).test_images
    np.testing.assert_array_equal(data.quantize(images), images)


def test_quantizing_goes_to_the_nearest_level() -> None:
    exact = np.linspace(0, 1, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    for levels in (2, 3, 256):
        found = data.quantize(exact, levels=levels)
        grid = np.arange(levels) / (levels - 1)
        nearest = np.abs(exact[..., None] - grid).min(axis=-1)
        assert found.dtype == np.float32
        assert set(np.round(found * (levels - 1), 4).ravel()) <= set(range(levels))
        np.testing.assert_allclose(np.abs(found - exact), nearest, atol=1e-6)
    np.testing.assert_array_equal(data.quantize(found), found)
