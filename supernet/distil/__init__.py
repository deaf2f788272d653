"""Distillation of one network from a teacher, on the supernet trainer's loop."""
