"""An embedded stand-in for GitHub and Copilot: first run, demo, tests.

Real HTTP on loopback, so that nothing in the daemon needs to know of it.
"""

from __future__ import annotations

from brokerd.simulator.server import Simulator, SimulatorThread, listening_socket


__all__ = ["Simulator", "SimulatorThread", "listening_socket"]
