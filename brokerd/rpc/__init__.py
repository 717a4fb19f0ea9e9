"""The RPC door."""
