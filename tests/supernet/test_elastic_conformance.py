"""Every registered space's supernet passes the shipped suite."""

from scholarch.testing.elastic_suite import *  # noqa: F403
from scholarch.testing.elastic_suite import pytestmark  # noqa: F401 (a star takes it, ruff not)
