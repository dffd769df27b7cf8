"""How good the suggested learning rates are on tasks that no method was chosen on.

usage: python -m evidence.benchmarks.suggestion_on_new_tasks
           [--save] [--resume] [--tasks NAME ...] [--seeds N]
                                                      [--small]

As `suggestion_quality`, with SGD and AdamW, on images of MNIST with three networks that the other pages do
not have there: 10,000 images with one dense layer (batches of 128), 5,000 with five (of 32), and 5,000 with
convolutions and batch normalization (of 64).

MNIST comes from `tensorflow_datasets`: name its folder in TFDS_DATA_DIR.
"""

from evidence.benchmarks.measuring.regret import GRID, Comparison
from evidence.benchmarks.measuring.tasks import Task, convolutional, dense, mnist

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
    "No method was chosen on these tasks; their images and two of the networks are among those of the small "
    "and the larger sets, but not together.",
)

if __name__ == "__main__":
    COMPARISON.run(__file__, __doc__, "MNIST (10,000), dense")
