/**
 * The client library of copilot-broker for Node: tokens and completions from this session's broker.
 *
 * Names and meanings are those of the Python client, in its own spelling. What a method cannot do
 * without is an argument, all else is in one object of options. Times are seconds.
 */

/** What can be done about an error; the exit codes of `copilot-cred`. */
export declare const ErrorClass: {
  readonly INTERNAL: 1;
  readonly USAGE: 2;
  readonly UNREACHABLE: 3;
  readonly LOGIN_REQUIRED: 4;
  readonly DENIED: 5;
  readonly LOCKED: 6;
  readonly TEMPORARY: 7;
  readonly MIN_VALID: 8;
  readonly STORE_UNAVAILABLE: 9;
};
export type ErrorClass = (typeof ErrorClass)[keyof typeof ErrorClass];

/** Base of all errors of this library. `toString()` is `code: message. hint`; no secret is in it. */
export declare class CopilotBrokerError extends Error {
  readonly error_class: ErrorClass;
  /** What happened, machine-readable; an open set. */
  readonly code: string;
  /** The next step, ending in the command that mends it. */
  readonly hint: string;
  readonly url: string | null;
  /** Seconds until asking again can help. */
  readonly retry_after: number | null;
}
/** No broker answers, or none that may be trusted: start it. */
export declare class BrokerUnreachable extends CopilotBrokerError {}
/** Nobody is signed in, or GitHub refused the login: sign in. */
export declare class LoginRequired extends CopilotBrokerError {}
/** GitHub or the broker's policy refuses; asking again does not help. */
export declare class Denied extends CopilotBrokerError {}
/** The broker is locked, or the secret store is: unlock it. */
export declare class Locked extends CopilotBrokerError {}
/** Network, upstream or load; asking again after `retry_after` can help. */
export declare class Temporary extends CopilotBrokerError {}
/** No token can live as long as was strictly asked for. */
export declare class MinValidUnsatisfiable extends CopilotBrokerError {}
/** There is no place to keep the login: choose one. */
export declare class StoreUnavailable extends CopilotBrokerError {}
/** The request is malformed or names something that is not there: change it. */
export declare class UsageError extends CopilotBrokerError {}
/** A defect of the broker or of this library: report it. */
export declare class InternalError extends CopilotBrokerError {}
/**
 * GitHub Copilot answered, but not with a completion. Each is also what can be done about it:
 * `error instanceof Temporary` holds for these, too.
 */
export declare class UpstreamRefused extends CopilotBrokerError {
  /** The HTTP status; 200 for an error in the middle of a stream. */
  readonly status: number;
}

/** However it is shown, copied or sent as JSON, its id is there and the token is not. */
export declare class Token {
  private constructor();
  /** The bearer: `Authorization: Bearer TOKEN`. A secret. */
  get token(): string;
  /** Unix seconds, to be shown; to decide anything use `expires_in`. */
  readonly expires_at: number;
  /** Seconds it had left when it was handed out. */
  readonly expires_in: number;
  /** Origin of the Copilot API that this token is for. */
  readonly api_base: string;
  readonly account: string;
  /** Stands for the token in logs; may be passed to `reject`. */
  readonly token_id: string;
  /** It lives less than `min_valid` asked for, and is as fresh as it gets. */
  readonly clamped: boolean;
  /** What the Copilot API wants to see besides Authorization. */
  readonly headers: Readonly<Record<string, string>>;
  /** Origin for fill-in-the-middle completions; empty where GitHub names none. */
  readonly completions_base: string;
  /** Unix seconds: send Copilot nothing of this account before; null: it wants requests. */
  readonly cooldown_until: number | null;
}

/** Upstream's answer, whatever its status. Shown, it has no body. */
export declare class Completion {
  private constructor();
  get status(): number;
  /** Lower-case names. */
  get headers(): Record<string, string>;
  get body(): Uint8Array;
  get account(): string;
  get ok(): boolean;
  /** What `raise_for_status` throws, as a value. */
  get refusal(): UpstreamRefused | null;
  /** The first choice's text. Throws UpstreamRefused, InternalError. */
  get text(): string;
  raise_for_status(): void;
  json(): any;
}

export declare class ModelList {
  private constructor();
  /** GitHub's own entries, untouched; any may lack anything but `id`. */
  readonly models: Record<string, any>[];
  readonly account: string;
  /** Seconds since the broker got it from GitHub. */
  readonly age: number;
  /** Why it is an old one: the broker asked GitHub again in vain. A value. */
  readonly failure: CopilotBrokerError | null;
}

/** Chunks as they come. Leaving a `for await` early cancels it; so does `close`. */
export declare class Stream<T = Record<string, any>> implements AsyncIterableIterator<T> {
  protected constructor();
  [Symbol.asyncIterator](): this;
  next(): Promise<IteratorResult<T, undefined>>;
  return(value?: undefined): Promise<IteratorResult<T, undefined>>;
  /** Stop it; upstream is cut at once. Twice is no error. */
  close(): void;
}

/** A completion as it comes: iterate over its bytes, or `events()`, or `text()`; one, once. */
export declare class CompletionStream extends Stream<Uint8Array> {
  get status(): number;
  get headers(): Record<string, string>;
  get account(): string;
  get ok(): boolean;
  /** What a refusal, or at the end an error in the middle, means. */
  get refusal(): UpstreamRefused | null;
  /** The rest of the body. */
  read(): Promise<Uint8Array>;
  /** Upstream's events as objects, up to `[DONE]`. Throws UpstreamRefused. */
  events(): AsyncGenerator<Record<string, any>, void, undefined>;
  /** The first choice's text as it comes. Throws UpstreamRefused. */
  text(): AsyncGenerator<string, void, undefined>;
  raise_for_status(): void;
}

/** Bytes are sent untouched, text as UTF-8, an object as JSON. */
export type Body = Uint8Array | ArrayBuffer | string | Record<string, unknown>;

export interface Options {
  /** Stops waiting; of a completion or a stream it cuts upstream. */
  signal?: AbortSignal;
}
export interface AccountOptions extends Options {
  account?: string;
}
export interface CompletionOptions extends AccountOptions {
  /** `/chat/completions` unless told otherwise. */
  path?: string;
  /** The caller's own, such as `x-initiator`. */
  headers?: Record<string, string>;
  /** Seconds: of `complete` for everything, of `stream` for the beginning. */
  timeout?: number;
}

/** Ask the broker. All methods throw CopilotBrokerError. */
export declare class Client {
  /**
   * Nothing is opened yet. `path` is the socket's, else `$COPILOT_BROKER_SOCKET` or the runtime
   * directory tells; `timeout` bounds each call (5 s unless given) and a stream's beginning;
   * `name` is shown in logs.
   */
  constructor(options?: { path?: string; timeout?: number; name?: string });

  /** A token that lives `min_valid` seconds more (60); `reject` names one that got a 401. */
  token(options?: AccountOptions & { min_valid?: number; reject?: string }): Promise<Token>;
  /** Ask GitHub Copilot and wait for the whole answer; any status is an answer. */
  complete(body: Body, options?: CompletionOptions): Promise<Completion>;
  /** Ask GitHub Copilot; resolves once its answer begins. */
  stream(body: Body, options?: CompletionOptions): Promise<CompletionStream>;
  models(options?: AccountOptions): Promise<Record<string, any>[]>;
  model_list(options?: AccountOptions & { fresh?: boolean }): Promise<ModelList>;
  /** Accept a model's terms in the person's name; resolves to the policy's state. */
  enable_model(model: string, options?: AccountOptions): Promise<string>;
  status(options?: Options): Promise<Record<string, any>>;
  refresh(options?: AccountOptions): Promise<Record<string, any>>;
  accounts(options?: Options): Promise<Record<string, any>>;
  use(account: string, options?: Options): Promise<void>;
  /** Sign out; resolves to whether GitHub has revoked the login. */
  logout(options?: AccountOptions & { revoke?: boolean }): Promise<boolean>;
  /** Have the broker give nobody anything; resolves to whether it did until now. */
  lock(options?: Options & { passphrase?: string }): Promise<boolean>;
  unlock(options?: Options & { passphrase?: string }): Promise<boolean>;
  grants(options?: Options): Promise<Record<string, any>>;
  explain_grant(
    options?: Options & {
      pid?: number;
      unit?: string;
      label?: string;
      sandbox?: string;
      uid?: number;
      gid?: number;
      listener?: string;
      key?: string;
    },
  ): Promise<Record<string, any>>;
  doctor(options?: Options): Promise<Record<string, any>>;
  quota(
    options?: AccountOptions & { fresh?: boolean; pat?: string; tier?: string },
  ): Promise<Record<string, any>>;
  set_pat(pat: string, options?: AccountOptions): Promise<Record<string, any>>;
  forget_pat(options?: AccountOptions): Promise<Record<string, any>>;
  /** Who has used how much; `since` and `until` are Unix seconds. */
  usage_report(
    options?: AccountOptions & { since?: number; until?: number; by?: string[] },
  ): Promise<Record<string, any>>;
  create_key(
    name: string,
    options?: AccountOptions & {
      models?: string[];
      requests_per_minute?: number;
      budget?: number;
      expires_in?: number;
    },
  ): Promise<Record<string, any>>;
  keys(options?: Options): Promise<Record<string, any>[]>;
  lease_key(
    label: string,
    options?: AccountOptions & {
      models?: string[];
      requests_per_minute?: number;
      budget?: number;
    },
  ): Promise<Record<string, any>>;
  mint_key(
    label: string,
    models: string[],
    options: AccountOptions & { expires_in: number },
  ): Promise<Record<string, any>>;
  revoke_key(name: string, options?: Options): Promise<Record<string, any>>;
  hello(options?: Options): Promise<Record<string, any>>;
  /** Follow an account: its full state at once, then each change. */
  watch(options?: AccountOptions): Promise<Stream>;
  /** Sign in: the user code, progress and, at last, the account. */
  login(
    options?: AccountOptions & {
      host?: string;
      client_id?: string;
      scope?: string;
      store?: string;
      token?: string;
    },
  ): Promise<Stream>;

  /** Ask and get the result; parameters that are null or undefined are left out. */
  call(method: string, params?: Record<string, unknown>, options?: Options): Promise<any>;
  open_stream(method: string, params?: Record<string, unknown>, options?: Options): Promise<Stream>;
  /** Close all connections and streams; the client may be used again. */
  close(): Promise<void>;
}
