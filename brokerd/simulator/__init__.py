"""An embedded stand-in for GitHub and Copilot, over real HTTP on loopback."""
