"""LeNet on MNIST: the trainings and the figures."""
