"""ResNets on CIFAR-10: the trainings and the figures."""
