// Errors that are this side's own, each with what mends it.

import { BrokerUnreachable, InternalError, Temporary } from "./errors.js";
import { START_HINT } from "./wire/address.js";

const LOG_HINT = "Look at: systemctl --user status copilot-broker";
const RESTART_HINT = "Run: systemctl --user restart copilot-broker";
const LOOK_HINT = "Ask again, or look at what comes: copilot-cred api";

export const noBroker = ({ code, message, hint }) => new BrokerUnreachable(code, message, hint);

export const connectionLost = () =>
  new BrokerUnreachable("connection_lost", "the broker hung up before it answered", START_HINT);

export function timedOut(timeout) {
  const message = `the broker did not answer within ${timeout} s`;
  return new Temporary("timeout", message, LOG_HINT, { retry_after: 1 });
}

export const protocolBroken = ({ code, message }) => new InternalError(code, message, LOG_HINT);

export const badAnswer = (message, hint = LOG_HINT) => new InternalError("bad_answer", message, hint);

/** An answer that only another version gives. */
export const otherVersion = (message) => badAnswer(message, RESTART_HINT);

/** An answer without what a `thing` needs. */
export const lacking = (thing) => otherVersion(`the broker's answer lacks what a ${thing} needs`);

/** Upstream sends what cannot be read. */
export const unreadable = (code, message) => new InternalError(code, message, LOOK_HINT);
