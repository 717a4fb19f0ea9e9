// How long a caller waits for something: until a time, or until the caller's AbortSignal says so.

export class Bound {
  #signal;
  #timer;
  #broken; // rejects when it is over

  /** `seconds` from now; `onTime` makes the error of who has waited too long. */
  constructor(seconds, onTime, signal) {
    this.#signal = signal;
    this.#broken = new Promise((_, reject) => {
      this.breakOff = (error) => {
        this.isOver = true;
        reject(error);
      };
    });
    this.#broken.catch(() => {}); // heard by `race`, if anybody waits
    this.isOver = false;
    this.onAbort = () => this.breakOff(signal.reason);
    if (signal?.aborted) this.onAbort();
    signal?.addEventListener("abort", this.onAbort, { once: true });
    this.extend(seconds, onTime);
  }

  /** Let it be `seconds` from now instead. */
  extend(seconds, onTime) {
    clearTimeout(this.#timer);
    const milliseconds = Math.min(Math.max(0, seconds * 1000), 2 ** 31 - 1);
    this.#timer = setTimeout(() => this.breakOff(onTime()), milliseconds);
  }

  /** The promise's value, unless this is over before. */
  race(promise) {
    return Promise.race([this.#broken, promise]);
  }

  /** Wait no longer: nothing of it is left. */
  done() {
    clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.onAbort);
  }
}

/** At most `count` at a time; the others wait in line. */
export class Room {
  #left;
  #waiting = [];

  constructor(count) {
    this.#left = count;
  }

  async enter(bound) {
    if (this.#left > 0) {
      this.#left -= 1;
      return;
    }
    const place = {};
    place.promise = new Promise((resolve) => (place.resolve = resolve));
    this.#waiting.push(place);
    try {
      await bound.race(place.promise);
    } catch (error) {
      const at = this.#waiting.indexOf(place);
      if (at >= 0) this.#waiting.splice(at, 1);
      else this.leave(); // it was let in at the same moment
      throw error;
    }
  }

  leave() {
    const next = this.#waiting.shift();
    if (next) next.resolve();
    else this.#left += 1;
  }
}
