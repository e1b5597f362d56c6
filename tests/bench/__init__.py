"""How quick it is, in ratios and in milliseconds beyond what the provider takes: `python -m tests.bench <name>`."""
