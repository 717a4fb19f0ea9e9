// The client: the names of the Python ones, many calls at once on one connection.
//
// What a method cannot do without is an argument; all else is in one object of options, under the
// names it has in Python, and `signal`, an AbortSignal. Each stream and each completion has a
// connection of its own; aborting one closes that, and so cuts upstream.

import { Asker } from "./asker.js";
import { bodyOf } from "./body.js";
import {
  DEFAULT_TIMEOUT,
  FIRST_BYTE_TIMEOUT,
  JSON_TIMEOUT,
  optionsOf,
  paramsOf,
  Patience,
  UNLOCK_TIMEOUT,
} from "./calls.js";
import { Completion } from "./completion.js";
import { CompletionStream } from "./completion_stream.js";
import { ModelList } from "./models.js";
import { mapOf, mapsOf, textOf } from "./reading.js";
import { Stream } from "./stream.js";
import { Token } from "./token.js";

export class Client {
  #timeout;
  #asker;

  /** Nothing is opened yet. `path`, `timeout` (seconds) and `name` are those of Python's. */
  constructor(options) {
    const { path = null, timeout = null, name = null } = optionsOf(options, "path", "timeout", "name");
    this.#timeout = timeout;
    this.#asker = new Asker(path, name);
  }

  // -- what can be asked --------------------------------------------------------------------------

  async token(options) {
    const { min_valid = 60, ...more } = optionsOf(options, "min_valid", "account", "reject");
    return new Token(await this.call("token.get", { min_valid, ...paramsOf(more) }, options));
  }

  async complete(body, options) {
    const { timeout, signal, ...more } = completionOptions(options);
    const patience = this.#patience(timeout, JSON_TIMEOUT);
    const params = { ...more, body: bodyOf(body) };
    return new Completion(await this.#asker.alone("completion.create", params, patience, signal));
  }

  async stream(body, options) {
    const { timeout, signal, ...more } = completionOptions(options);
    const patience = this.#patience(timeout, FIRST_BYTE_TIMEOUT);
    const params = { ...more, body: bodyOf(body), stream: true };
    return await this.#asker.begin(CompletionStream, "completion.create", params, patience, signal);
  }

  async models(options) {
    const { account, signal } = optionsOf(options, "account");
    return (await this.model_list({ account, signal })).models;
  }

  async model_list(options) {
    const { account, fresh } = optionsOf(options, "account", "fresh");
    return new ModelList(await this.call("models.list", { account, fresh: fresh || null }, options));
  }

  async enable_model(model, options) {
    const { account } = optionsOf(options, "account");
    const result = await this.call("models.enable", { model, account }, options);
    return textOf(result, "state", "models.enable");
  }

  async status(options) {
    return await this.#map("broker.status", optionsOf(options));
  }

  async refresh(options) {
    return await this.#map("broker.refresh", optionsOf(options, "account"));
  }

  async accounts(options) {
    return await this.#map("account.list", optionsOf(options));
  }

  async use(account, options) {
    optionsOf(options);
    await this.call("account.use", { account }, options);
  }

  async logout(options) {
    const { account, revoke } = optionsOf(options, "account", "revoke");
    const params = { account, revoke: revoke || null };
    return Boolean(mapOf(await this.call("account.logout", params, options), "account.logout").revoked);
  }

  async lock(options) {
    return Boolean((await this.#map("broker.lock", optionsOf(options, "passphrase"))).changed);
  }

  async unlock(options) {
    const { passphrase, signal } = optionsOf(options, "passphrase");
    const patience = Patience.even(this.#timeout ?? UNLOCK_TIMEOUT);
    const result = await this.#asker.alone("broker.unlock", { passphrase }, patience, signal);
    return Boolean(mapOf(result, "broker.unlock").changed);
  }

  async grants(options) {
    return await this.#map("grant.list", optionsOf(options));
  }

  async explain_grant(options) {
    const known = ["pid", "unit", "label", "sandbox", "uid", "gid", "listener", "key"];
    return await this.#map("grant.explain", optionsOf(options, ...known));
  }

  async doctor(options) {
    return await this.#map("broker.doctor", optionsOf(options));
  }

  async quota(options) {
    const { fresh, ...more } = optionsOf(options, "account", "fresh", "pat", "tier");
    return await this.#map("quota.get", { ...more, fresh: fresh || null });
  }

  async set_pat(pat, options) {
    return await this.#map("quota.set_pat", { ...optionsOf(options, "account"), pat });
  }

  async forget_pat(options) {
    return await this.#map("quota.forget_pat", optionsOf(options, "account"));
  }

  async usage_report(options) {
    return await this.#map("usage.report", optionsOf(options, "since", "until", "by", "account"));
  }

  async create_key(name, options) {
    const known = ["models", "account", "requests_per_minute", "budget", "expires_in"];
    return await this.#map("key.create", { ...optionsOf(options, ...known), name });
  }

  async keys(options) {
    return mapsOf(await this.call("key.list", {}, optionsOf(options)), "keys", "key.list");
  }

  async lease_key(label, options) {
    const known = ["models", "account", "requests_per_minute", "budget"];
    return await this.#map("key.lease", { ...optionsOf(options, ...known), label });
  }

  async mint_key(label, models, options) {
    const more = optionsOf(options, "expires_in", "account");
    return await this.#map("key.mint", { ...more, label, models });
  }

  async revoke_key(name, options) {
    return await this.#map("key.revoke", { ...optionsOf(options), name });
  }

  async hello(options) {
    return await this.#map("broker.hello", { ...optionsOf(options), ...this.#asker.introduction });
  }

  async watch(options) {
    return await this.open_stream("token.watch", paramsOf(optionsOf(options, "account")), options);
  }

  async login(options) {
    const known = ["account", "host", "client_id", "scope", "store", "token"];
    return await this.open_stream("account.login", paramsOf(optionsOf(options, ...known)), options);
  }

  // -- how ----------------------------------------------------------------------------------------

  /** Ask and return the result; parameters that are null or undefined are left out. */
  async call(method, params = {}, { signal } = {}) {
    return await this.#asker.call(method, params, this.#timeout ?? DEFAULT_TIMEOUT, signal);
  }

  /** Ask for a stream, on a connection of its own; returns once it has begun. */
  async open_stream(method, params = {}, { signal } = {}) {
    const patience = Patience.even(this.#timeout ?? DEFAULT_TIMEOUT);
    return await this.#asker.begin(Stream, method, params, patience, signal);
  }

  /** Close all connections and streams; the client may be used again. */
  async close() {
    this.#asker.close();
  }

  async #map(method, options) {
    return mapOf(await this.call(method, paramsOf(options), options), method);
  }

  #patience(timeout, usual) {
    return Patience.forCompletion(timeout ?? this.#timeout, usual);
  }
}

if (Symbol.asyncDispose) {
  Object.defineProperty(Client.prototype, Symbol.asyncDispose, {
    async value() {
      await this.close();
    },
  });
}

function completionOptions(options) {
  const { path = "/chat/completions", ...more } = optionsOf(
    options,
    "path",
    "account",
    "headers",
    "timeout",
  );
  return { path, ...more };
}
