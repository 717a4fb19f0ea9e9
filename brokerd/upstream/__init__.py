"""GitHub and Copilot over HTTP; the only place with httpx."""
