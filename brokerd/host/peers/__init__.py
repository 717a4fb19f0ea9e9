"""Who is at the other end of a connection, as the kernel tells it, and what it may not send."""
