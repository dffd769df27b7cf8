"""LeNet and MNIST, as the reproduction has them."""

import sys

from _common.rounds import ROOT

sys.path.append(str(ROOT / "reproduction"))

from mnist_lenet import trainings as mnist_lenet

__all__ = ["mnist_lenet"]
