"""What the tests of a search share: a batch without a file, proxies without a network."""

from scholarch.testing.searcher_suite import _proxies, add_proxy, batch  # noqa: F401
