"""The networks that the policy is measured on."""

from keras_onecycle.models.resnet import resnet

__all__ = ["resnet"]
