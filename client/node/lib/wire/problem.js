// The peer broke the rules of the wire, or we asked for what it cannot say. Not for callers: they
// get the classes of errors.js.

export class ProtocolProblem extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
