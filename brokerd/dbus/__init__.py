"""The session: Secret Service over D-Bus; the only place with pydbus."""
