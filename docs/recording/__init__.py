"""Makes docs/upstream.md: the product's own requests to a simulated GitHub, written down.

`stage` sets up the product and the simulator; `sign_in`, `tokens`, `copilot` and `tenants` have it
ask one thing after the other; `wire` and `layout` write an exchange down, `page` all of them.
"""
