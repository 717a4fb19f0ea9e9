"""The daemon: owns the GitHub login and the refresh loop."""

__version__ = "0.1.0"
