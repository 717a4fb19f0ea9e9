"""The daemon: owns the GitHub login and the refresh loop."""
