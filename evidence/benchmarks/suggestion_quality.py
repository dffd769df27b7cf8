"""How good the learning rates are that a range test suggests: what each method loses to a grid search.

usage: python -m evidence.benchmarks.suggestion_quality [--save] [--resume] [--tasks NAME ...]
                                               [--seeds N] [--small]

On scikit-learn's digits, breast_cancer, wine and iris, standardised, and on 2,000 images of CIFAR-10 with two
networks, with SGD (momentum 0.9) and with Adam, for each seed:

1. `lr_find` with the package's defaults, and what each method suggests;
2. one cycle (`OneCycle`, defaults, about 300 updates) at each of those, at two that need no range test,
   and at each learning rate of a grid by half decades.

A seed is one split of the data (of CIFAR-10 there is one), one draw of the weights and one order of the
batches; everything within it starts from the same. *Regret* is the final validation accuracy at the best
learning rate of the grid, less that at the suggested one, in percentage points, paired by the seed. The
best of the grid is the one with the highest mean over the seeds (among equals: the lowest loss), so a
regret below 0 is possible. The loss is compared too, each capped at that of guessing, since accuracy
saturates and diverged losses would outweigh everything. Where a method gives no suggestion, that is
counted, and left out of its means.

CIFAR-10 is read as `data.load_arrays` does: name its folder in TFDS_DATA_DIR. All that was
trained is kept with `--save` as it goes; with `--resume` too, the same command goes on after a kill.
"""

from sklearn import datasets

from evidence.benchmarks.measuring.regret import Comparison
from evidence.benchmarks.measuring.tasks import Task, cifar, convolutional, dense, scikit

TASKS = {
    "digits": Task(lambda seed: scikit(datasets.load_digits, seed), dense(64), 10, 32, 10),
    "breast_cancer": Task(
        lambda seed: scikit(datasets.load_breast_cancer, seed), dense(32, 32), 2, 16, 16
    ),
    "wine": Task(lambda seed: scikit(datasets.load_wine, seed), dense(32), 3, 8, 25),
    "iris": Task(lambda seed: scikit(datasets.load_iris, seed), dense(32), 3, 8, 30),
    "cifar10 (2,000)": Task(lambda seed: cifar(), convolutional, 10, 64, 10),
    "cifar10 (2,000), dense": Task(lambda seed: cifar(), dense(128, 128), 10, 64, 10),
}
GRID = {
    "SGD": [10 ** (k / 2) for k in range(-6, 3)],
    "Adam": [10 ** (k / 2) for k in range(-8, 1)],
}
COMPARISON = Comparison(
    TASKS,
    lambda name: GRID,
    ("edge", "valley", "steep", "minimum", "slide"),
    "The rule of `edge` was chosen on these sets and the larger ones.",
)

if __name__ == "__main__":
    COMPARISON.run(__file__, __doc__, "wine")
