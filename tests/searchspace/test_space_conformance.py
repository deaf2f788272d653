"""Every registered space passes the shipped suite."""

from scholarch.testing.space_suite import *  # noqa: F403
from scholarch.testing.space_suite import pytestmark  # noqa: F401 (a star takes it, ruff not)
