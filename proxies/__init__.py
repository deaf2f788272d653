"""Training-free proxies: one shared probe, one proxy a file, ranks, scoring."""
