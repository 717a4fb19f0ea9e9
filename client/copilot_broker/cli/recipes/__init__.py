"""Settings that make tools ask the broker: one file per family of tools, data only."""
