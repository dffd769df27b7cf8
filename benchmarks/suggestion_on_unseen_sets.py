"""How good the suggested learning rates are on tasks that no method was chosen on.

usage: python benchmarks/suggestion_on_unseen_sets.py [--save] [--resume] [--tasks NAME ...] [--seeds N]
                                                      [--small]

As `suggestion_quality`, with SGD and AdamW, on images of MNIST with three networks that the other pages do
not have there: 10,000 images with one dense layer (batches of 128), 5,000 with five (of 32), and 5,000 with
convolutions and batch normalization (of 64).

MNIST comes from `tensorflow_datasets`: name its folder in TFDS_DATA_DIR.
"""

from _common.regret import Comparison
from _common.tasks import Task, convolutional, dense, mnist
from suggestion_on_larger_sets import GRID

TASKS = {
    "MNIST (10,000), dense": Task(lambda seed: mnist(10_000), dense(64), 10, 128, 4),
    "MNIST (5,000), five dense layers": Task(
        lambda seed: mnist(5_000), dense(64, 64, 64, 64, 64), 10, 32, 2
    ),
    "MNIST (5,000), small CNN": Task(lambda seed: mnist(5_000), convolutional, 10, 64, 4),
}
COMPARISON = Comparison(
    TASKS,
    lambda name: GRID,
    ("edge", "valley", "minimum"),
    "No method was chosen on these tasks; their images and two of the networks are in other tasks of the two "
    "pages before.",
)

if __name__ == "__main__":
    COMPARISON.run(__file__, __doc__, "MNIST (10,000), dense")
