"""A training-free rank corrected by a few real distillations."""
