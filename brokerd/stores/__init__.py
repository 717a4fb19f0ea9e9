"""Where the login rests when no session bus does."""
