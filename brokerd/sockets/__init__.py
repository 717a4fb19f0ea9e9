"""What both doors need of a socket, and nothing of what is spoken through it.

`acceptor` lets newcomers in, a `channel` is one connection in the event loop, `rounds` has what it
writes go out with what others write, a `crowd` keeps all of a door's within bounds, `turns` says
whose turn it is, `alarm` when it is too late, `farewell` closes without losing the last words;
`files` says how many fit.
"""
