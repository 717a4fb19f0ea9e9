"""The machine: service manager, peer credentials, confinement, journal."""
