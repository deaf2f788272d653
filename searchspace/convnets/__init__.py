"""Convolutional spaces; importing this package registers them."""

from . import derived, mobilenet, plainnet, resnet50, resnet_cifar

__all__ = ["derived", "mobilenet", "plainnet", "resnet50", "resnet_cifar"]
