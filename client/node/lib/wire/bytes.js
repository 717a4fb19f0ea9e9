// Bytes as they arrive, kept in one piece that grows by doubling: a message of 32 MiB comes in
// hundreds of reads, and joining them one by one would copy gigabytes.

export class Bytes {
  #held = Buffer.alloc(0);
  #size = 0;

  get size() {
    return this.#size;
  }

  /** What is there; good until the next `append` or `take`. */
  get view() {
    return this.#held.subarray(0, this.#size);
  }

  append(data) {
    const needed = this.#size + data.length;
    if (needed > this.#held.length) {
      const larger = Buffer.alloc(Math.max(needed, 2 * this.#held.length));
      this.#held.copy(larger, 0, 0, this.#size);
      this.#held = larger;
    }
    this.#held.set(data, this.#size);
    this.#size = needed;
  }

  /** The first `count` bytes as a copy of their own; they are gone from here. */
  take(count) {
    const taken = Uint8Array.prototype.slice.call(this.#held, 0, count);
    this.#held.copyWithin(0, count, this.#size);
    this.#size -= count;
    if (this.#size === 0) this.clear();
    return taken;
  }

  clear() {
    this.#held = Buffer.alloc(0);
    this.#size = 0;
  }
}
