"""Adversarial training and evaluation (ProARD)."""
