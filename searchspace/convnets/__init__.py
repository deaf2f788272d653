"""Convolutional spaces; importing this package registers them."""

from . import resnet_cifar

__all__ = ["resnet_cifar"]
