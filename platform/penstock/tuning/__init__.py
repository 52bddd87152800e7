"""A search for good settings. It is a table of runs: each trial is an ordinary run, its settings are dotted
overrides, and what is known about it stands in a ledger that only grows."""
