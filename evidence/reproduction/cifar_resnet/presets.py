"""How large the trainings of ResNets on CIFAR-10 are: a preset for a machine, or for a published training."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from examples.cifar10.settings import Settings


@dataclass(frozen=True)
class Preset:
    """How large the trainings are.

    Args:
        base: Settings of one cycle, which every figure changes a few of.
        cycle_epochs: Epochs of one cycle in figure 1, ascending.
        baseline_epochs: Epochs of the piecewise-constant trainings, ascending.
        cosine_epochs: Epochs of the trainings with cosine decay and a warm-up. Empty: those of `base`.
        tuning_epochs: Epochs of the trainings that choose the rates. `None`: those of `base`, and the
            middle one of `baseline_epochs` for piecewise constant.
        rates: Learning rates of policies that are not tuned here; those without one have
            no part in figure 1. Empty: all are tuned.
        grid: Learning rates to choose from; extended while the best stands at an end.
        tuning_seed: The seed that rates are chosen with. No reported training has it.
        momentum_at_equal_steps: Whether constant momentum is also tried at the cycle's step size.
        short_range_test, long_range_test: Updates of the range tests.
        range_test_max_lr: Where range tests end.
        batch_sizes, weight_decays, subsets, depths: What the figures vary.
    """

    base: Settings
    cycle_epochs: tuple[int, ...]
    baseline_epochs: tuple[int, ...]
    cosine_epochs: tuple[int, ...] = ()
    tuning_epochs: int | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    grid: tuple[float, ...] = (0.1, 0.3, 1.0)
    tuning_seed: int = 100
    momentum_at_equal_steps: bool = False
    short_range_test: int = 100
    long_range_test: int = 600
    range_test_max_lr: float = 3.0
    batch_sizes: tuple[int, ...] = (128, 256, 512, 1024)
    weight_decays: tuple[float, ...] = (1e-3, 1e-4, 1e-5, 0.0)
    subsets: tuple[int, ...] = (10_000, 20_000, 30_000, 40_000)
    depths: tuple[int, ...] = (20, 56, 110)


# fastai's recipe of 2018 for this network; shortcuts have no parameters here.
_FASTAI = Settings(
    batch_size=512, div_factor=20.0, final_div_factor=100.0, padding="reflect", input="arrays"
)

PRESETS = {
    # Two cores: 780 updates of 128 images for the shortest cycle.
    "cpu": Preset(
        Settings(
            depth=8,
            num_train=10_000,
            epochs=10,
            batch_size=128,
            validation_freq=2,
        ),
        cycle_epochs=(10, 20),
        baseline_epochs=(10, 20, 40),
        # As many as train the network before the rate is large.
        long_range_test=3_000,
        subsets=(2_500, 5_000, 10_000),
        depths=(8, 14, 20),
    ),
    # The published size on a processor: 20 minutes for 15 epochs on one core with AMX.
    "resnet20": Preset(
        replace(_FASTAI, depth=20, epochs=15),
        cycle_epochs=(15, 30, 60),
        baseline_epochs=(15, 30, 60, 164),
        cosine_epochs=(30,),
        tuning_epochs=15,
        grid=(0.3, 1.0),
        momentum_at_equal_steps=True,
    ),
    # As fastai published it. One evaluation in five epochs and one Python call an epoch: a GPU waits for
    # nothing else.
    "accelerator": Preset(
        Settings(
            depth=56,
            epochs=50,
            batch_size=512,
            div_factor=20.0,
            input="arrays",
            steps_per_execution=97,
            validation_freq=5,
        ),
        cycle_epochs=(35, 50, 70),
        baseline_epochs=(35, 50, 70, 140),
        # fastai's, and He et al.'s.
        rates={"one_cycle": 3.0, "piecewise": 0.1},
    ),
}
