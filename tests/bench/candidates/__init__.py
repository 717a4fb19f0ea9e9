"""Minimal forwarders that differ in their HTTP client or server only; see README.md."""
