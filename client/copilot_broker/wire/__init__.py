"""copilot-broker."""
