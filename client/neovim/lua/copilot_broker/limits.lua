-- How long anything may take and how large it may be, as with the Python client.

return {
  -- Seconds, as everywhere on the wire.
  DEFAULT_TIMEOUT = 5, -- for one call, connecting included
  FIRST_BYTE_TIMEOUT = 120, -- until a streamed completion begins: models think first
  JSON_TIMEOUT = 600, -- until a completion is there as a whole
  UNLOCK_TIMEOUT = 15, -- a wrong passphrase is answered after up to ten
  LAST_WORD_TIMEOUT = 1, -- for the end of a stream whose [DONE] has come
  FRAME_TIMEOUT = 10, -- from a message's first byte to its last; idle is free
  WAIT_SLICE = 0.2, -- a person's Ctrl-C is heard so soon
  BUSY_PAUSE = 0.01, -- between two tries while the listener's queue is full

  -- Bytes, unless said otherwise.
  MAX_FRAME = 32 * 1024 * 1024, -- a whole completion is one message
  MAX_BODY = 32 * 1024 * 1024 - 64 * 1024, -- which leaves room for what is around it
  MAX_DEPTH = 32, -- nesting; ours is six deep
  MAX_ITEMS = 64 * 1024, -- values in one message
  MAX_PATH = 107, -- of a socket, unix(7)
  STREAM_WINDOW = 256 * 1024, -- credit that a stream starts with
  IN_FLIGHT = 15, -- of a connection's 16 unanswered requests one is the hello's
  TRIES = 3, -- of a call that may be repeated, when a restarting broker hangs up
}
