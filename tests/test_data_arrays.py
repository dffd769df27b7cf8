"""`load_arrays`: `.npz` parts, the prepared folder, subsets, and what it says where there is nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.cifar10 import data
from examples.cifar10.data.statistics import STATISTICS

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*Is a part missing"),
]


def part(images: int = 40, classes: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = rng.integers(0, 256, (images, 32, 32, 3), dtype="uint8")
        arrays[f"y_{split}"] = rng.permutation(images).astype("uint8") % classes
    return arrays


def real() -> tuple:
    try:
        return data.load_arrays("cifar10")
    except (FileNotFoundError, ImportError) as error:
        pytest.skip(f"needs CIFAR-10: {error}")


def test_parts_are_joined_in_the_order_of_their_names(tmp_path: Path) -> None:
    parts = [part(seed=seed) for seed in range(3)]
    parts[1]["y_train"] = parts[1]["y_train"].astype("int64")[:, None]  # As `keras.datasets`.
    for number in (2, 0, 1):
        np.savez(tmp_path / f"cifar10-part{number}.npz", **parts[number])
    np.savez(tmp_path / "cifar100-part0.npz", **part(100, 100))
    np.savez(tmp_path / "notes.npz", a=1)
    (x_train, y_train), (x_test, y_test) = data.load_arrays("cifar10", tmp_path)
    np.testing.assert_array_equal(x_train, np.concatenate([p["x_train"] for p in parts]))
    np.testing.assert_array_equal(y_train, np.concatenate([p["y_train"].ravel() for p in parts]))
    np.testing.assert_array_equal(x_test, np.concatenate([p["x_test"] for p in parts]))
    np.testing.assert_array_equal(y_test, np.concatenate([p["y_test"] for p in parts]))
    assert (x_train.dtype, y_train.dtype, y_train.shape) == (np.uint8, np.int32, (120,))
    assert data.load_arrays("cifar100", str(tmp_path))[0][1].max() == 99


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "cifar10.npz", **part())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load_arrays()[0][0]) == 40


@pytest.mark.parametrize(("number", "counts"), [(10, {1}), (35, {3, 4}), (40, {4})])
def test_a_subset_is_balanced_and_always_the_same(
    tmp_path: Path, number: int, counts: set[int]
) -> None:
    arrays = part()
    np.savez(tmp_path / "cifar10.npz", **arrays)
    (x, y), (x_test, _) = data.load_arrays("cifar10", tmp_path, num_train=number)
    assert len(x) == len(y) == number
    assert len(x_test) == 40
    assert set(np.bincount(y, minlength=10)) == counts
    # The first of each class, in their order, with their labels.
    places = [int(np.flatnonzero((arrays["x_train"] == image).all((1, 2, 3)))[0]) for image in x]
    assert places == sorted(places)
    np.testing.assert_array_equal(arrays["y_train"][places], y)
    for label in range(10):
        of_class = np.flatnonzero(arrays["y_train"] == label)
        kept = [place for place in places if arrays["y_train"][place] == label]
        assert kept == of_class[: len(kept)].tolist()


def test_a_part_too_few_is_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **part())
    with pytest.warns(UserWarning, match="40 training and 40 test images.*50000 and 10000"):
        data.load_arrays("cifar10", tmp_path)


def test_no_data_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        data.load_arrays("cifar100", tmp_path / "nowhere")
    for said in (
        str(tmp_path / "nowhere"),
        "download_and_prepare",
        "cifar100-0.npz",
        "TFDS_DATA_DIR",
        "data_dir",
        "x_train",
    ):
        assert said in str(caught.value)


def test_a_prepared_folder_without_its_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="download_and_prepare"):
        data.load_arrays("cifar10", tmp_path)
    assert not any((tmp_path / "cifar10" / "3.0.2").iterdir())


def broken(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**part(), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (broken(y_test=None), "y_test"),
        (broken(x_train=np.zeros((40, 32, 32, 3), "float32")), "`x_train` must be uint8.*float32"),
        (
            broken(x_test=np.zeros((40, 3, 32, 32), "uint8")),
            r"`x_test` must be .*\(40, 3, 32, 32\)",
        ),
        (broken(y_train=np.zeros(39, "int32")), r"`y_train` must be integers.*\(39,\)"),
        (broken(y_train=np.zeros(40)), "`y_train` must be integers.*float64"),
        (broken(y_test=np.full(40, 10)), "`y_test` must be classes.*0 to 9.*10 to 10"),
        (broken(y_test=np.full(40, -1)), "`y_test` must be classes"),
        (broken(x_train=np.array([None])), "no whole"),
    ],
)
def test_foreign_files_are_told(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        data.load_arrays("cifar10", tmp_path)
    assert "cifar10.npz" in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.999])
def test_torn_files_are_told(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "cifar10.npz"
    np.savez_compressed(path, **part())
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept in (0, 10) else int(kept * len(content))])
    with pytest.raises(ValueError, match=r"torn.*cifar10\.npz"):
        data.load_arrays("cifar10", tmp_path)


def test_a_single_array_is_told(tmp_path: Path) -> None:
    with (tmp_path / "cifar10.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"torn.*cifar10\.npz"):
        data.load_arrays("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "cifar"}, ValueError, "name='cifar'"),
        ({"name": 10}, TypeError, "name=10"),
        ({"data_dir": 3}, TypeError, "data_dir=3"),
        ({"num_train": 0}, ValueError, "num_train=0"),
        ({"num_train": 1.5}, TypeError, "num_train=1.5"),
        ({"download": "no"}, TypeError, "download='no'"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.load_arrays(**{"data_dir": "nowhere", **arguments})


def test_more_than_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar10.npz", **part())
    with pytest.raises(ValueError, match=r"at most 40.*num_train=41"):
        data.load_arrays("cifar10", tmp_path, num_train=41)


def test_the_real_data() -> None:
    (x_train, y_train), (x_test, y_test) = real()
    assert (x_train.shape, x_test.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert set(np.bincount(y_train)) == {5000}
    assert set(np.bincount(y_test)) == {1000}
    # Sums of integers, channel by channel: no rounding.
    counts = [np.bincount(x_train[..., channel].ravel(), minlength=256) for channel in range(3)]
    values = np.arange(256) / 255
    for channel, count in enumerate(counts):
        mean = (count * values).sum() / count.sum()
        std = np.sqrt((count * (values - mean) ** 2).sum() / count.sum())
        assert STATISTICS["cifar10"].mean[channel] == pytest.approx(mean, abs=5.1e-5)
        assert STATISTICS["cifar10"].std[channel] == pytest.approx(std, abs=5.1e-5)
