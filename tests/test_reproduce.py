"""The figures: what is trained, once; what is refused; drawn from the files alone."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from evidence import pages
from evidence.reproduction import MissingRunError, length_factor
from evidence.reproduction import __main__ as reproduce
from evidence.reproduction.cifar_resnet import beside_published, figures
from evidence.reproduction.cifar_resnet import trainings as cifar_trainings
from evidence.reproduction.cifar_resnet.beside_reference import beside_reference
from evidence.reproduction.cifar_resnet.presets import PRESETS, Preset
from evidence.reproduction.cifar_resnet.trainings import Trainings
from evidence.reproduction.mnist_lenet import figures as lenet_figures
from examples.cifar10 import training
from examples.cifar10.settings import Settings, write_json
from keras_onecycle import RangeTestResult

pytestmark = pytest.mark.any_backend

PRESET = Preset(
    Settings(depth=8, num_train=1000, epochs=2, batch_size=100, validation_freq=2),
    cycle_epochs=(2, 4),
    baseline_epochs=(2, 4, 8),
    batch_sizes=(100, 200),
    weight_decays=(1e-3, 0.0),
    subsets=(500, 1000),
    depths=(8, 14),
)
BEST = {"one_cycle": 1.0, "cosine": 0.3, "piecewise": 0.03}


def accuracy_of(settings: Settings) -> float:
    """What a training is said to reach: best at one rate, better when longer."""
    distance = abs(np.log10(settings.max_lr / BEST[settings.policy]))
    longer = 0.02 * np.log2(settings.epochs / 2)
    return 0.7 + longer - 0.05 * distance + 0.001 * (settings.seed % 10)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Replaces training by a formula, and lists what was asked for."""
    asked: list[Settings] = []

    def run(settings: Settings, folder: Path, **arguments: Any) -> dict[str, Any]:
        asked.append(settings)
        accuracy = accuracy_of(settings)
        steps = (settings.num_train or 1000) // settings.batch_size
        history = [
            {"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1.0}
            for epoch in range(settings.epochs)
        ]
        results = {
            "settings": asdict(settings),
            "environment": {
                "backend": "none",
                "none": "1",
                "keras": "3",
                "cores": 2,
                "devices": ["cpu"],
            },
            "updates": settings.epochs * steps,
            "test_accuracy": accuracy,
            "test_loss": 1.0,
            "history": history,
        }
        write_json(folder / "settings.json", asdict(settings))
        write_json(folder / "results.json", results)
        return results

    def range_test(
        self: Trainings, *, num_steps: int, validate: bool = False, **changes: Any
    ) -> Any:
        lr = np.linspace(0, 3, num_steps)
        loss = 2 - lr + 0.4 * lr**2
        val_lr = lr[::5]
        validation = {"val_lr": val_lr, "val_loss": 2 - val_lr / 2} if validate else {}
        return RangeTestResult(
            lr,
            loss,
            loss,
            "linear",
            **validation,
            val_metrics={"accuracy": val_lr / 5} if validate else {},
        )

    def save(folder: Path, name: str, ax: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").touch()
        plt.close(ax.figure)

    monkeypatch.setattr(figures, "save", save)
    monkeypatch.setattr(training, "run", run)
    monkeypatch.setattr(Trainings, "range_test", range_test)
    monkeypatch.setitem(PRESETS, "cpu", PRESET)
    return asked


def in_folder(folder: Path, **arguments: Any) -> Trainings:
    return Trainings("cpu", 3, "the command", out=folder, **arguments)


def test_a_training_is_made_once(trained: list, tmp_path: Path) -> None:
    first = in_folder(tmp_path).run(max_lr=1.0)
    assert in_folder(tmp_path).run(max_lr=1.0) == first
    assert in_folder(tmp_path, train=False).run(max_lr=1.0) == first
    assert len(trained) == 1
    in_folder(tmp_path).run(max_lr=1.0, seed=1)
    in_folder(tmp_path).run(max_lr=1.0, weight_decay=0.0)
    assert len(trained) == len({replace(settings) for settings in trained}) == 3


def test_to_draw_the_seeds_that_are_there_are_enough(trained: list, tmp_path: Path) -> None:
    with pytest.raises(MissingRunError, match=r"seed=0 is not done"):
        in_folder(tmp_path, train=False).runs(max_lr=1.0)
    last = Trainings("cpu", 4, "the command", out=tmp_path).run(max_lr=1.0, seed=3)
    assert in_folder(tmp_path, train=False).runs(max_lr=1.0) == [last]
    # More seeds than were asked for are read, not trained.
    runs = Trainings("cpu", 2, "the command", out=tmp_path).runs(max_lr=1.0)
    assert [run["settings"]["seed"] for run in runs] == [0, 1, 3]
    assert len(trained) == 3


def test_the_grid_goes_on_until_the_best_rate_is_inside(trained: list, tmp_path: Path) -> None:
    for policy, best in BEST.items():
        found, grid = in_folder(tmp_path).best_lr(policy)
        assert found == best
        assert min(grid) < best < max(grid)
    assert {settings.seed for settings in trained} == {PRESET.tuning_seed}
    # No policy's first rates are others than another's.
    for policy in BEST:
        assert set(PRESET.grid) <= {s.max_lr for s in trained if s.policy == policy}


def test_what_is_missing_or_damaged_is_named(trained: list, tmp_path: Path) -> None:
    with pytest.raises(MissingRunError, match=r"max_lr=1\.0-seed=0 is not done.*`the command`"):
        in_folder(tmp_path, train=False).run(max_lr=1.0)
    results = in_folder(tmp_path).run(max_lr=1.0)
    (path,) = tmp_path.glob("evidence/results/super-convergence/cpu/*/results.json")
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=r"results\.json is damaged"):
        in_folder(tmp_path).run(max_lr=1.0)
    # Killed before it was done: there is a folder, but no results.
    path.unlink()
    with pytest.raises(ValueError, match=r"is not finished.*--resume"):
        in_folder(tmp_path).run(max_lr=1.0)
    assert in_folder(tmp_path, resume=True).run(max_lr=1.0) == results


@pytest.mark.parametrize(
    ("reached", "wanted", "updates"),
    [
        ([70, 80, 90], 70, 100),
        ([70, 80, 90], 60, 100),
        ([70, 80, 90], 80, 200),
        # Half way from 200 to 400 by the logarithm.
        ([70, 80, 90], 85, 200 * 2**0.5),
        ([70, 80, 90], 91, float("inf")),
        ([70, 90, 80], 85, 100 * 2**0.75),
    ],
)
def test_length_needed(reached: list, wanted: float, updates: float) -> None:
    assert length_factor.length_needed([100, 200, 400], reached, wanted) == pytest.approx(updates)


def test_factor() -> None:
    others = {100: [70.0, 70.0, 72.0], 200: [80.0]}
    # 100 to 200 updates, by the logarithm: half way from 70 to 80, and three eighths from 72 to 80.
    assert (
        length_factor.factor([75], 50, others) == f"{2**1.5:.1f} ({2**1.375:.1f} to {2**1.5:.1f})"
    )
    assert length_factor.factor([75], 50, {100: [70.0], 200: [80.0]}) == "2.8"
    assert length_factor.factor([90, 91], 50, others) == "more than 4.0"
    assert length_factor.factor([90, 80, 60], 50, others) == "4.0 (2.0 or less to more than 4.0)"
    assert length_factor.factor([60], 50, others) == "2.0 or less"
    assert length_factor.factor([90], 200, others) == ""
    # The middle of two, and percentiles that read the same.
    middle = (2**1.3 + 2**1.5) / 2
    assert (
        length_factor.factor([73, 75], 50, {100: [70.0], 200: [80.0]})
        == f"{middle:.1f} (2.5 to 2.8)"
    )
    assert length_factor.factor([75, 75.1], 50, {100: [70.0], 200: [80.0]}) == "2.8"
    # Of a length, or of one cycle, all diverged.
    assert length_factor.factor([75], 50, {100: [70.0], 150: [], 200: [80.0]}) == "2.8"
    assert length_factor.factor([75], 50, {100: [70.0], 200: []}) == "more than 2.0"
    assert length_factor.factor([], 50, others) == length_factor.factor([75], 50, {}) == ""


def test_new_trainings_have_the_precision_of_those_that_are_there(
    trained: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cifar_trainings, "fast_precision", lambda: ("mixed_bfloat16", "in this test")
    )
    in_folder(tmp_path).run(max_lr=1.0)
    monkeypatch.setattr(cifar_trainings, "fast_precision", lambda: ("float32", "in this test"))
    in_folder(tmp_path).run(max_lr=3.0)
    assert [settings.precision for settings in trained] == ["mixed_bfloat16"] * 2
    in_folder(tmp_path / "other").run(max_lr=1.0)
    assert trained[-1].precision == "float32"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with places for two tables and for the machines."""
    path = tmp_path / "docs" / "folder" / "page.md"
    path.parent.mkdir(parents=True)
    places = ("cpu/momentum", "cpu/super-convergence", "cpu/machines", "another")
    text = "\n\n".join(f"<!-- table: {name} -->\n<!-- /table -->" for name in places)
    path.write_text(f"By hand.\n\n{text}\n\nThe end.\n")
    return path


def test_all_figures_and_their_tables(trained: list, tmp_path: Path, page: Path) -> None:
    task = ["--task", "cifar-resnet", "--out", str(tmp_path)]
    assert reproduce.main(["all", *task]) == 0
    pictures = tmp_path / "docs" / "super-convergence" / "cpu"
    assert {path.stem for path in pictures.glob("*.png")} == set(figures.FIGURES)
    text = page.read_text()
    assert text.startswith("By hand.\n\n<!-- table: cpu/momentum -->\n\n| momentum |")
    assert text.endswith("<!-- table: another -->\n<!-- /table -->\n\nThe end.\n")
    assert "Trained on: none 1, Keras 3, 2 cores, cpu, " in text
    # By the formula both reach as much with as many updates. A seed is worth 0.1%, twice the updates 2%, and
    # one combination in nine is two seeds apart. Less than the first length was not tried.
    for updates, accuracy, told in (
        (20, "70.10", "1.0 or less (1.0 or less to 1.1)"),
        (40, "72.10", "1.0 (0.9 to 1.1)"),
    ):
        assert f"| one cycle | 1 | {updates} | {accuracy} ± 0.10 (3 seeds) | {told} |" in text
    number = len(trained)
    picture = pictures / "momentum.png"
    picture.unlink()
    assert reproduce.main(["momentum", *task, "--redraw"]) == 0
    assert picture.exists()
    assert page.read_text() == text
    assert len(trained) == number


def test_the_tables_on_the_pages_are_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (figures, lenet_figures, beside_published):
        monkeypatch.setattr(module, "save", lambda folder, name, ax: plt.close(ax.figure))
    made = reproduce.tables(reproduce.parse(["--redraw"]))
    docs = pages.ROOT / "docs"
    of_pages = [docs / "super-convergence.md", *docs.glob("super-convergence/*.md")]
    filled = {name: text for page in of_pages for name, text in pages.filled(page).items()}
    assert filled == made


def test_beside_the_published_stands_what_is_trained(
    trained: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = replace(PRESET, base=replace(PRESET.base, depth=56), cycle_epochs=(2, 50))
    preset = replace(preset, rates={"one_cycle": 1.0, "piecewise": 0.03})
    monkeypatch.setitem(PRESETS, "cpu", preset)
    drawn = in_folder(tmp_path, train=False)
    with pytest.raises(MissingRunError):
        beside_published.full_size([drawn], tmp_path)
    for epochs in preset.cycle_epochs:
        in_folder(tmp_path).runs(max_lr=1.0, epochs=epochs)
    told = beside_published.full_size([drawn], tmp_path)
    assert (tmp_path / "full-size.png").exists()
    assert "| ResNet-56 | one cycle | 2 |  | 70.10 ± 0.10 (3 seeds) |  |" in told
    assert "| ResNet-56 | one cycle | 50 | 92.31 (fastai) | 79.39 ± 0.10 (3 seeds) |  |" in told
    assert "| ResNet-56 | piecewise constant | 164 | 93.03 (He et al.) |  |  |" in told
    assert "To tune" not in told
    # By the formula twice the updates are worth 2 points, for both alike.
    for epochs in preset.baseline_epochs:
        in_folder(tmp_path).runs(policy="piecewise", max_lr=0.03, epochs=epochs)
    told = beside_published.full_size([drawn], tmp_path)
    assert "| ResNet-56 | one cycle | 2 |  | 70.10 ± 0.10 (3 seeds) | 1.0 or less" in told


def test_the_rates_that_were_tuned_stand_below_the_table(
    trained: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = replace(PRESET, tuning_epochs=3)
    monkeypatch.setitem(PRESETS, "cpu", preset)
    figures.super_convergence(in_folder(tmp_path))
    told = beside_published.full_size([in_folder(tmp_path, train=False)], tmp_path)
    (line,) = [line for line in told.splitlines() if line.startswith("- ResNet-8, one cycle, 3 ")]
    assert "**1: " in line


def test_the_example_stands_beside_the_reference(tmp_path: Path) -> None:
    results = tmp_path / "evidence" / "results" / "super-convergence"
    settings = {"depth": 20, "policy": "one_cycle", "epochs": 30, "batch_size": 512, "max_lr": 3.0}
    for name, accuracy, changes in (
        ("pytorch-reference/a.json", 0.89, {}),
        ("pytorch-reference/b.json", 0.90, {"seed": 1}),
        ("pytorch-reference/c.json", 0.86, {"epochs": 15}),
        ("resnet20/x/results.json", 0.88, {"padding": "reflect"}),
        ("resnet20/y/results.json", 0.87, {"max_lr": 1.0}),
    ):
        content = {"settings": {**settings, **changes}, "test_accuracy": accuracy}
        write_json(results / name, content)
    lines = beside_reference(tmp_path).splitlines()
    assert lines[2:] == [
        "| ResNet-20 | one cycle | 15 | 3 | 86.00 (1 seed) |  |",
        "| ResNet-20 | one cycle | 30 | 3 | 89.50 ± 0.71 (2 seeds) | 88.00 (1 seed) |",
    ]


def test_all_rates_are_tuned_in_as_many_epochs(
    trained: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = replace(PRESET, tuning_epochs=3, cosine_epochs=(5,), momentum_at_equal_steps=True)
    monkeypatch.setitem(PRESETS, "cpu", preset)
    told = figures.super_convergence(in_folder(tmp_path))
    assert {one.epochs for one in trained if one.seed == preset.tuning_seed} == {3}
    assert {one.epochs for one in trained if one.policy == "cosine"} == {3, 5}
    assert "in 3 epochs:" in told
    # 1 / (1 - 0.85) is 0.667 / (1 - 0.9) is 0.333 / (1 - 0.95).
    told = figures.momentum(in_folder(tmp_path))
    assert "| constant 0.9, rates to 0.667 |" in told
    assert "| constant 0.95, rates to 0.333 |" in told


def test_without_results_nothing_is_written(trained: list, tmp_path: Path, page: Path) -> None:
    before, out = page.read_text(), ["--redraw", "--out", str(tmp_path)]
    for task in reproduce.FIGURES:
        assert reproduce.main(["momentum", "--task", task, *out]) == 2
    assert page.read_text() == before
    assert trained == []


def test_a_table_without_a_place_is_told(page: Path, capsys: pytest.CaptureFixture) -> None:
    pages.fill({"another": "| a |", "nowhere": "| b |"}, page.parents[1])
    assert pages.filled(page)["another"] == "| a |"
    said = capsys.readouterr().out
    assert "nowhere" in said
    assert "another" not in said


def test_bad_options_are_named(capsys: pytest.CaptureFixture) -> None:
    for options in (
        ["everything"],
        ["all", "--seeds", "0"],
        ["all", "--seeds", "5"],
        ["all", "--preset", "gpu"],
    ):
        with pytest.raises(SystemExit):
            reproduce.parse(options)
        assert options[-1] in capsys.readouterr().err
