// The models that Copilot offers an account, as the broker tells them.

import { errorFrom } from "./errors.js";
import { otherVersion } from "./failures.js";
import { isMap } from "./wire/messages.js";

export class ModelList {
  /** Read the result of `models.list`. Throws InternalError `bad_answer`. */
  constructor(result) {
    const { models, account = "", age, error = null } = isMap(result) ? result : {};
    if (!Array.isArray(models) || !models.every(isMap)) {
      throw otherVersion("the answer to models.list holds no models");
    }
    this.models = models;
    this.account = String(account);
    this.age = typeof age === "number" ? age : 0;
    this.failure = error === null ? null : errorFrom(error);
    Object.freeze(this);
  }
}
