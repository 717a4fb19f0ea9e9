// The client library of copilot-broker for Node: see README.md and index.d.ts.

export { Client } from "./client.js";
export { Completion } from "./completion.js";
export { CompletionStream } from "./completion_stream.js";
export {
  BrokerUnreachable,
  CopilotBrokerError,
  Denied,
  ErrorClass,
  InternalError,
  Locked,
  LoginRequired,
  MinValidUnsatisfiable,
  StoreUnavailable,
  Temporary,
  UpstreamRefused,
  UsageError,
} from "./errors.js";
export { ModelList } from "./models.js";
export { Stream } from "./stream.js";
export { Token } from "./token.js";
