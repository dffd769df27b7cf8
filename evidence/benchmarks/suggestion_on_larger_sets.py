"""How good the suggested learning rates are on larger sets and networks.

usage: python -m evidence.benchmarks.suggestion_on_larger_sets
           [--save] [--resume] [--tasks NAME ...] [--seeds N]
                                                      [--small]

As `suggestion_quality`, with SGD and AdamW, on half of 20,000 rows of the diamonds of plotnine (which of
five cuts, from nine numbers), on 5,000 images of MNIST with LeNet, each with batches of 16, 128 and 512, and
on 2,000 images of CIFAR-10 with ResNet-8 (batches of 32) and, with SGD, ResNet-20 (of 64).

MNIST and CIFAR-10 come from `tensorflow_datasets`: name its folder in TFDS_DATA_DIR.
"""

from evidence.benchmarks.measuring.regret import GRID, Comparison
from evidence.benchmarks.measuring.tasks import Task, cifar, dense, diamonds, mnist
from evidence.reproduction.mnist_lenet import lenet
from examples.cifar10.resnet import resnet

TASKS = {
    f"diamonds, batches of {size}": Task(diamonds, dense(64, 64), 5, size, epochs)
    for size, epochs in {16: 1, 128: 5, 512: 15}.items()
}
TASKS |= {
    f"MNIST (5,000), LeNet, batches of {size}": Task(
        lambda seed: mnist(5000), lambda x, _: lenet.lenet(5e-4), 10, size, epochs
    )
    for size, epochs in {16: 1, 128: 5, 512: 10}.items()
}
TASKS["CIFAR-10 (2,000), ResNet-8"] = Task(lambda seed: cifar(), lambda x, _: resnet(8), 10, 32, 10)
TASKS["CIFAR-10 (2,000), ResNet-20"] = Task(
    lambda seed: cifar(), lambda x, _: resnet(20), 10, 64, 6
)


def grids(name: str) -> dict[str, list[float]]:
    """Returns the learning rates that each optimizer is tried with."""
    return {"SGD": GRID["SGD"][1:6]} if name.endswith("ResNet-20") else GRID


# `steep` and `slide` lost whole percents where `suggestion_quality` tried them.
COMPARISON = Comparison(
    TASKS, grids, ("edge", "valley", "minimum"), "The rule of `edge` was chosen on these sets too."
)

if __name__ == "__main__":
    COMPARISON.run(__file__, __doc__, "diamonds, batches of 512")
