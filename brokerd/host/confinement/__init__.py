"""What the daemon gives up of the machine and of its own memory, and how far that holds."""
