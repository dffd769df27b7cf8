"""The result of a range test: arrays, picture and file."""

import functools
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_onecycle import RangeTestResult, suggestion
from keras_onecycle.range_tests._smoothing import smooth_both_ways

pytestmark = pytest.mark.any_backend


def make(points: int = 100, mode: str = "exponential") -> RangeTestResult:
    lr = np.geomspace(1e-6, 10, points) if mode == "exponential" else np.linspace(0, 3, points)
    smoothed = 1 + (np.linspace(-6, 1, points) + 1) ** 2
    return RangeTestResult(
        lr=lr,
        loss=smoothed + 0.1,
        smoothed_loss=smoothed,
        mode=mode,
        val_lr=lr[::10],
        val_loss=smoothed[::10] * 2,
        val_metrics={"accuracy": np.linspace(0, 1, len(lr[::10]))},
    )


def assert_equal(one: RangeTestResult, other: RangeTestResult) -> None:
    for name in ("lr", "loss", "smoothed_loss", "val_lr", "val_loss"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.mode == other.mode
    assert one.val_metrics.keys() == other.val_metrics.keys()
    for name, values in one.val_metrics.items():
        np.testing.assert_array_equal(values, other.val_metrics[name])


def test_a_file_holds_it_to_the_last_bit(tmp_path: Path) -> None:
    tested = make()
    tested.loss[-3:] = np.nan, np.inf, -np.inf
    path = tmp_path / "range.json"
    tested.save(path)
    assert_equal(RangeTestResult.load(path), tested)
    tested.save(str(path))
    assert_equal(RangeTestResult.load(str(path)), tested)
    assert [p.name for p in tmp_path.iterdir()] == ["range.json"]


def test_a_link_and_the_mode_of_a_file_are_kept(tmp_path: Path) -> None:
    file, link, new = tmp_path / "private" / "range.json", tmp_path / "link", tmp_path / "new"
    file.parent.mkdir()
    file.touch(mode=0o600)
    link.symlink_to(file)
    make().save(link)
    assert link.is_symlink()
    assert_equal(RangeTestResult.load(file), make())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    make().save(new)
    other = tmp_path / "other"
    other.touch()
    assert new.stat().st_mode == other.stat().st_mode


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "range.json"
    make(10).save(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            make().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["range.json"]
    assert_equal(RangeTestResult.load(path), make(10))


def test_two_may_save_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "range.json"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda points: make(points).save(path), [10, 20] * 30))
    assert len(RangeTestResult.load(path).lr) in (10, 20)
    assert [p.name for p in tmp_path.iterdir()] == ["range.json"]


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "range.json"
    make().save(path)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"may be torn.*Received: .*range\.json"):
            RangeTestResult.load(path)


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "{}",
        '{"format": "something else"}',
        '{"format": "keras_onecycle.RangeTestResult", "version": 99}',
        '{"format": "keras_onecycle.RangeTestResult", "version": 1}',
        b"\x89PNG\r\n\x1a\n\xff\xfe",
    ],
)
def test_a_foreign_file_is_named(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"Received: .*other\.json"):
        RangeTestResult.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", [1.0]),
        ("lr", None),
        ("lr", "1" * 100),
        ("loss", "x"),
        ("mode", "log"),
        ("val_metrics", [1]),
        ("version", 99),
        ("format", "keras_onecycle.Other"),
    ],
)
def test_a_file_that_does_not_fit_together_is_named(
    name: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "range.json"
    make().save(path)
    content = json.loads(path.read_text())
    content[name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"Received: .*range\.json"):
        RangeTestResult.load(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RangeTestResult.load(tmp_path / "nowhere.json")


def test_a_directory_stays_one(tmp_path: Path) -> None:
    for use in (RangeTestResult.load, make().save):
        with pytest.raises(OSError, match="directory"):
            use(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not list(tmp_path.parent.glob("*.partial"))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="`smoothed_loss`"):
        RangeTestResult(lr=[1.0, 2.0], loss=[1.0, 2.0], smoothed_loss=[1.0])
    with pytest.raises(ValueError, match="could not convert string to float: 'a'"):
        RangeTestResult(["a"], [1.0], [1.0])


@pytest.mark.parametrize(("mode", "scale"), [("exponential", "log"), ("linear", "linear")])
def test_plot(mode: str, scale: str) -> None:
    tested = make(mode=mode)
    (ax,) = tested.plot().axes
    assert ax.get_xscale() == scale
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"suggested: {tested.suggest():.3g}" in labels
    assert "validation loss" in labels
    smoothed = next(line for line in ax.lines if line.get_label() == "smoothed")
    np.testing.assert_array_equal(smoothed.get_ydata(), smooth_both_ways(tested.loss))
    marked = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert marked[0].get_xdata()[0] == tested.suggest()
    plt.close(ax.figure)


def test_what_is_past_the_descent_is_shaded() -> None:
    lr = np.geomspace(1e-6, 1, 60)
    falls = np.linspace(2.0, 1.0, 60)
    turns = falls.copy()
    turns[40:] += np.linspace(0.0, 9.0, 20)
    for loss, wanted in ((falls, []), (turns, [lr[np.argmin(smooth_both_ways(turns))]])):
        ax = RangeTestResult(lr=lr, loss=loss, smoothed_loss=loss).plot().axes[0]
        shaded = [patch for patch in ax.patches if patch.get_label() == "past the descent"]
        np.testing.assert_allclose([patch.get_x() for patch in shaded], wanted)
        plt.close(ax.figure)


def test_plot_into_axes_that_are_given() -> None:
    tested = make()
    _, (left, right) = plt.subplots(1, 2)
    assert tested.plot(right, method=None) is right.figure
    assert not left.lines
    np.testing.assert_array_equal(right.lines[0].get_xdata(), tested.lr)
    plt.close(left.figure)


def test_a_function_without_a_name_is_a_suggestion() -> None:
    valley = make().suggest("valley")
    ax = make().plot(method=functools.partial(suggestion.valley)).axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"suggested: {valley:.3g}" in labels
    plt.close(ax.figure)


def test_plot_of_a_curve_that_allows_no_suggestion() -> None:
    flat = RangeTestResult(lr=np.geomspace(1e-6, 1, 9), loss=np.ones(9), smoothed_loss=np.ones(9))
    (ax,) = flat.plot().axes
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]
    plt.close(ax.figure)


def test_bad_plot_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no points to draw"):
        make(0).plot()
    with pytest.raises(ValueError, match="method='best'"):
        make().plot(method="best")
    with pytest.raises(TypeError, match="method=3"):
        make().plot(method=3)


def test_plot_needs_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    figure = make().plot()
    figure.canvas.draw()
    plt.close(figure)


def test_pictures_after_the_first_of_a_notebook_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    subplots = plt.subplots

    def first_of_a_notebook(*arguments: Any, **options: Any) -> Any:
        # What its backend does as it is loaded, by the first figure. Otherwise it shows none.
        matplotlib.interactive(True)
        return subplots(*arguments, **options)

    monkeypatch.setattr(plt, "subplots", first_of_a_notebook)
    try:
        plt.close(make().plot())
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(False)


def test_a_plot_in_a_part_of_a_figure_returns_the_whole() -> None:
    whole = plt.figure()
    ax = whole.subfigures(1, 2)[1].subplots()
    assert make().plot(ax) is whole
    plt.close(whole)


def test_repr_says_what_it_is() -> None:
    assert repr(make()) == "RangeTestResult(points=100, lr=1e-06..10, mode='exponential')"


def test_an_old_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    # Before there were short cycles, and with strings for what JSON has not.
    path.write_text(
        '{"format": "keras_onecycle.RangeTestResult", "version": 1, "mode": "linear",'
        ' "lr": [0.1, 0.2], "loss": [2.0, "nan"], "smoothed_loss": [2.0, "-inf"], "val_lr": [0.1],'
        ' "val_loss": ["inf"], "val_metrics": {"f1": [[1.0, "nan"]], "accuracy": [0.5]}}'
    )
    metrics = {"f1": [[1.0, np.nan]], "accuracy": [0.5]}
    wanted = RangeTestResult(
        [0.1, 0.2], [2.0, np.nan], [2.0, -np.inf], "linear", [0.1], [np.inf], metrics
    )
    result = RangeTestResult.load(path)
    assert_equal(result, wanted)
    assert result.cycle_lr.shape == result.cycle_loss.shape == (0,)
