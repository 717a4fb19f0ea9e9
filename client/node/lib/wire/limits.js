// How much of anything a broker may make us hold, and how long it may take; as the Python client.
// Sizes are bytes, times are seconds.

/** Anything a broker answers: a whole completion is one message. */
export const MAX_FRAME = 32 * 1024 * 1024;

/** A body that we send: room is left for everything beside it. */
export const MAX_BODY = MAX_FRAME - 64 * 1024;

/** Nesting; ours is six deep, and the decoder recurses. */
export const MAX_DEPTH = 32;

/** Values in one message: an empty array is one byte on the wire and dozens in memory. */
export const MAX_ITEMS = 64 * 1024;

/** From a message's first byte to its last. Local peers need milliseconds; idle is free. */
export const FRAME_TIMEOUT = 10;

/** Credit that a stream starts with. */
export const STREAM_WINDOW = 256 * 1024;

/** Unanswered requests that a broker takes on one connection. */
export const REQUESTS_IN_FLIGHT = 16;

/** A socket's path: `sun_path` of unix(7) holds 108 bytes with the NUL. */
export const MAX_PATH = 107;
