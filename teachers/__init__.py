"""Networks that can teach: bundled, CIFAR ResNets by name, timm, checkpoints."""
