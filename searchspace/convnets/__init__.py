"""Convolutional spaces; importing this package registers them."""

from . import mobilenet, plainnet, resnet50, resnet_cifar

__all__ = ["mobilenet", "plainnet", "resnet50", "resnet_cifar"]
