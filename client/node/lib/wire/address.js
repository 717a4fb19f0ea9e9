// Where the broker's socket is, and whether what is there may be trusted.
//
// A client hands its account name and a request for secrets to whoever answers, so it looks first:
// the socket must be a socket of ours, in a folder that only we may enter and that is no symbolic
// link. Node tells nobody who listens (SO_PEERCRED), but in such a folder nobody else can have
// put a socket. All that happens before a byte is sent.

import { lstatSync } from "node:fs";
import { createConnection } from "node:net";

import { MAX_PATH } from "./limits.js";

export const START_HINT = "Run: systemctl --user start copilot-broker.socket";
const DECOY_HINT = "Remove it, then run: systemctl --user restart copilot-broker.socket";

/** Seconds between two tries while the listener's queue is full; the broker accepts in less. */
export const BUSY_PAUSE = 0.01;

/** Nobody to be trusted listens there; `code`, `message` and `hint` say why and what to do. */
export class NoBroker extends Error {
  constructor(code, message, hint = START_HINT) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

const refuse = (message) => {
  throw new NoBroker("untrusted_socket", message, DECOY_HINT);
};

/** `$COPILOT_BROKER_SOCKET`, else the path in the runtime directory. Throws NoBroker. */
export function socketPath(env = process.env) {
  if (env.COPILOT_BROKER_SOCKET) return env.COPILOT_BROKER_SOCKET;
  const folder = env.XDG_RUNTIME_DIR || usualFolder();
  return `${folder}/copilot-broker/broker.sock`;
}

function usualFolder() {
  const uid = process.getuid();
  const folder = `/run/user/${uid}`;
  try {
    if (lstatSync(folder).uid === uid) return folder;
  } catch {
    // said below
  }
  throw new NoBroker("no_runtime_dir", `XDG_RUNTIME_DIR is not set and ${folder} is not there`);
}

/** Throws NoBroker `not_running` or `untrusted_socket` unless `path` is a socket of ours. */
export function checkPath(path, uid = process.getuid()) {
  const slash = path.lastIndexOf("/");
  const folder = slash > 0 ? path.slice(0, slash) : slash === 0 ? "/" : ".";
  let around;
  let found;
  try {
    around = lstatSync(folder);
    found = lstatSync(path);
  } catch (error) {
    throw new NoBroker("not_running", `no socket at ${path} (${error.code})`);
  }
  if (!around.isDirectory()) refuse(`${folder} is not a folder but a link or file`);
  if (around.uid !== uid) refuse(`${folder} belongs to uid ${around.uid}`);
  if (around.mode & 0o077) {
    const mode = (around.mode & 0o7777).toString(8).padStart(4, "0");
    refuse(`${folder} is open to others (mode ${mode})`);
  }
  if (!found.isSocket()) refuse(`${path} is not a socket`);
  if (found.uid !== uid) refuse(`${path} belongs to uid ${found.uid}`);
  // A longer one would be cut, and something else be connected to than what was looked at.
  if (Buffer.byteLength(path) > MAX_PATH) {
    throw new NoBroker("not_running", `the path has more than ${MAX_PATH} bytes: ${path}`);
  }
}

/** Connect once; null while the listener's queue is full (connect(2), EAGAIN). */
export function connectOnce(path) {
  checkPath(path);
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error) => {
      socket.destroy();
      if (error.code === "EAGAIN") resolve(null);
      else reject(new NoBroker("not_running", `nobody answers at ${path} (${error.code})`));
    });
  });
}
