// The client: the names of the Python ones, many calls at once on one connection.
//
// What a method cannot do without is an argument; all else is in one object of options, under the
// names it has in Python, and `signal`, an AbortSignal. Each stream and each completion has a
// connection of its own; aborting one closes that, and so cuts upstream.

import { Bound, Room } from "./bound.js";
import * as calls from "./calls.js";
import { bodyOf, Completion } from "./completion.js";
import { CopilotBrokerError } from "./errors.js";
import { connect } from "./link.js";
import { ModelList } from "./models.js";
import { CompletionStream, Stream } from "./stream.js";
import { Token } from "./token.js";
import { REQUESTS_IN_FLIGHT } from "./wire/limits.js";

const { given, mapOf, optionsOf, paramsOf } = calls;

export class Client {
  #path;
  #timeout;
  #name;
  #link = null;
  #connecting = null;
  #room = new Room(REQUESTS_IN_FLIGHT - 1);
  #apart = new Set(); // streams, and links of completions

  /** Nothing is opened yet. `path`, `timeout` (seconds) and `name` are those of Python's. */
  constructor(options) {
    const { path = null, timeout = null, name = null } = optionsOf(options, "path", "timeout", "name");
    this.#path = path;
    this.#timeout = timeout;
    this.#name = name;
  }

  // -- what can be asked --------------------------------------------------------------------------

  async token(options) {
    const { min_valid = 60, ...more } = optionsOf(options, "min_valid", "account", "reject");
    return new Token(await this.call("token.get", { min_valid, ...paramsOf(more) }, options));
  }

  async complete(body, options) {
    const { timeout, signal, ...more } = completionOptions(options);
    const patience = this.#patience(timeout, calls.JSON_TIMEOUT);
    const params = { ...more, body: bodyOf(body) };
    const { link, result } = await this.#askApart("completion.create", params, patience, signal);
    link.close();
    return new Completion(result);
  }

  async stream(body, options) {
    const { timeout, signal, ...more } = completionOptions(options);
    const patience = this.#patience(timeout, calls.FIRST_BYTE_TIMEOUT);
    const params = { ...more, body: bodyOf(body), stream: true };
    return await this.#begin(CompletionStream, "completion.create", params, patience, signal);
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
    return calls.textOf(result, "state", "models.enable");
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
    const seconds = this.#timeout ?? calls.UNLOCK_TIMEOUT;
    const patience = new calls.Patience(seconds, seconds, false);
    const { link, result } = await this.#askApart("broker.unlock", { passphrase }, patience, signal);
    link.close();
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
    return calls.mapsOf(await this.call("key.list", {}, optionsOf(options)), "keys", "key.list");
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
    return await this.#map("broker.hello", { ...optionsOf(options), ...this.#introduction });
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
    const seconds = this.#timeout ?? calls.DEFAULT_TIMEOUT;
    const bound = new Bound(seconds, () => calls.timedOut(seconds), signal);
    try {
      await this.#room.enter(bound);
      try {
        return await this.#callWithin(bound, method, given(params));
      } finally {
        this.#room.leave();
      }
    } finally {
      bound.done();
    }
  }

  async #callWithin(bound, method, params) {
    for (let tries = 1; ; tries++) {
      let link;
      try {
        link = await this.#usableLink(bound);
        return await bound.race(link.ask(method, params));
      } catch (error) {
        if (!(error instanceof CopilotBrokerError) || !calls.mayRepeat(method, error, tries)) {
          throw error;
        }
        link?.close(); // a broker that shuts down answers nothing more on it
      }
    }
  }

  /** Ask for a stream, on a connection of its own; returns once it has begun. */
  async open_stream(method, params = {}, { signal } = {}) {
    const seconds = this.#timeout ?? calls.DEFAULT_TIMEOUT;
    const patience = new calls.Patience(seconds, seconds, false);
    return await this.#begin(Stream, method, params, patience, signal);
  }

  /** Close all connections and streams; the client may be used again. */
  async close() {
    for (const what of [...this.#apart]) what.close();
    this.#apart.clear();
    this.#link?.close();
    this.#link = null;
  }

  async #map(method, options) {
    return mapOf(await this.call(method, paramsOf(options), options), method);
  }

  get #introduction() {
    return given({ protocol: 1, client: this.#name });
  }

  #patience(timeout, usual) {
    return calls.Patience.forCompletion(timeout ?? this.#timeout, usual);
  }

  async #usableLink(bound) {
    for (;;) {
      if (this.#link !== null && this.#link.lost === null) return this.#link;
      if (this.#connecting === null) {
        this.#connecting = this.#connect(bound);
        try {
          return (this.#link = await this.#connecting);
        } finally {
          this.#connecting = null;
        }
      }
      await bound.race(this.#connecting.catch(() => {})); // then look again: its time is not ours
    }
  }

  async #connect(bound, greet = false) {
    const link = await connect(this.#path, bound);
    if (greet || this.#name !== null) {
      // goes out with the first request; its answer changes nothing
      link.ask("broker.hello", this.#introduction).catch(() => {});
    }
    return link;
  }

  async #begin(kind, method, params, patience, signal) {
    const { link, result } = await this.#askApart(method, params, patience, signal);
    try {
      const stream = new kind(link, calls.checkedStream(method, result), signal);
      this.#keepWhileOpen(stream, link);
      return stream;
    } catch (error) {
      link.close();
      throw error;
    }
  }

  /** Ask on a new connection, once; return that and the result. */
  async #askApart(method, params, patience, signal) {
    let link = null;
    const late = () => patience.exhausted(link !== null && link.answered);
    const begun = performance.now();
    const bound = new Bound(patience.broker, late, signal);
    try {
      link = await this.#connect(bound, patience.greet);
      this.#keepWhileOpen(link, link);
      const answer = link.ask(method, given(params));
      await bound.race(Promise.race([answer, link.news])); // anything at all
      bound.extend(patience.answer - (performance.now() - begun) / 1000, late);
      return { link, result: await bound.race(answer) };
    } catch (error) {
      link?.close();
      throw error;
    } finally {
      if (link !== null) this.#apart.delete(link);
      bound.done();
    }
  }

  #keepWhileOpen(what, link) {
    this.#apart.add(what);
    link.onLost(() => this.#apart.delete(what));
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
