/**
 * Configuration from the Holdfast agent beside this program.
 *
 * One file, no dependency, Node 18 or later. Copy it next to your program
 * (`holdfast client node > holdfast.mjs`).
 *
 *     import { ConfigLibrary } from "./holdfast.mjs";
 *
 *     const library = new ConfigLibrary({ serviceName: "stt-worker" });
 *     const config = await library.getConfig();         // or getConfig(model): zod, or a function
 *     library.subscribeUpdates((newConfig) => { ... }); // after each change
 *     ...
 *     library.close();
 *
 * The agent is found by HOLDFAST_URL (http://127.0.0.1:2770, or unix:///path/of/local.sock),
 * else at 127.0.0.1:2770. A caller gets secrets with the token of the agent (token, tokenFile
 * or HOLDFAST_TOKEN_FILE), or over the socket as a user that the agent trusts.
 *
 * What holds:
 *
 * - The newest configuration counts: by (epoch, version), never an older one after a newer one.
 * - A model that refuses a configuration, or a callback that throws, keeps the previous one in
 *   force; `onProblem` hears it, and `rejected` has the version and the reason.
 * - Nothing is written to disk: the agent is the cache. While it restarts, the configuration
 *   in force stays, and the client asks again, with a jittered delay of at most five seconds.
 * - Several changes in a short time may be delivered as one: the newest.
 * - The agent is told which version is in force, and which was refused and why, so that its
 *   author sees that (docs/instances.md). It takes this from who may have secrets, or from all
 *   with CONFIG_ACK_OPEN=1; else the client is silent after one try. acknowledge: false: never.
 * - A subscription keeps the process alive until close.
 */

import { readFile } from "node:fs/promises";
import http from "node:http";

const DEFAULT_URL = "http://127.0.0.1:2770";
const WAIT = 60; // of one long poll, seconds
const SLOWEST = 5000; // between two attempts, milliseconds
const MAX_BODY = 64 * 1024 * 1024;
const FINAL = new Set(["malformed", "unauthenticated", "denied", "method_not_allowed", "closed"]);

/** The agent has no configuration to give. `code` is that of the agent's answer, or "unreachable". */
export class ConfigError extends Error {
  /** @param {string} message @param {string} code @param {string} [hint] */
  constructor(message, code, hint = "") {
    super(hint ? `${message} (${hint})` : message);
    this.name = "ConfigError";
    this.code = code;
    this.hint = hint;
  }
}

/** The model does not accept the configuration of the agent. It names fields, never values. */
export class ConfigRejected extends ConfigError {
  /** @param {string} message */
  constructor(message) {
    super(message, "rejected");
    this.name = "ConfigRejected";
  }
}

/**
 * @typedef {{config: Record<string, any>, epoch: string, version: number, etag: string}} Document
 * @typedef {((config: any) => any) | {parse: (config: any) => any}} Model a function, or an object such as a zod schema
 */

/** Configuration of one service. */
export class ConfigLibrary {
  /** The configuration in force. @type {any} */ config = undefined;
  /** Its version. */ version = 0;
  /** Its epoch. */ epoch = "";
  /** The last configuration that was not taken over. @type {{epoch: string, version: number, reason: string} | undefined} */ rejected = undefined;

  #url;
  #token;
  #tokenFile;
  #timeout;
  #onProblem;
  #closed = new AbortController();
  /** @type {Model | undefined} */ #model;
  /** @type {Document | undefined} */ #newest;
  /** @type {Document | undefined} */ #shown;
  #left = new Set();
  /** @type {((config: any) => any)[]} */ #callbacks = [];
  #watching = false;
  #acknowledges = true;

  /**
   * @param {{serviceName: string, url?: string, token?: string, tokenFile?: string, timeout?: number, acknowledge?: boolean,
   *   onProblem?: (message: string) => void}} options timeout: how many milliseconds getConfig waits for an agent that
   *   does not answer, or has nothing yet (default 30,000). onProblem: default console.error
   */
  constructor({ serviceName, url, token, tokenFile, timeout = 30000, acknowledge = true, onProblem = (m) => console.error(`holdfast: ${m}`) }) {
    if (!serviceName || serviceName.includes("/")) throw new TypeError(`serviceName ${serviceName} is not the name of a service`);
    this.serviceName = serviceName;
    this.#url = new URL(url || process.env.HOLDFAST_URL || DEFAULT_URL);
    if (!["http:", "unix:"].includes(this.#url.protocol)) throw new TypeError("the URL is neither http://HOST:PORT nor unix:///PATH");
    this.#token = token;
    this.#tokenFile = tokenFile || process.env.HOLDFAST_TOKEN_FILE;
    this.#timeout = timeout;
    this.#acknowledges = acknowledge;
    this.#onProblem = onProblem;
  }

  /**
   * The configuration, as the model returns it. Throws ConfigError, ConfigRejected.
   * @param {Model} [model]
   */
  async getConfig(model) {
    const end = performance.now() + this.#timeout;
    const backoff = new Backoff();
    for (;;) {
      try {
        const got = await this.#get("", 0);
        if (!got || "deleted" in got) throw new ConfigError(got ? got.deleted : "no document", "not_found");
        this.#take(got);
        const doc = this.#newest ?? got;
        const config = this.#accept(doc, model);
        this.#model = model;
        this.#inForce(doc, config);
        return config;
      } catch (e) {
        const left = end - performance.now();
        if (!(e instanceof ConfigError) || e instanceof ConfigRejected || FINAL.has(e.code) || left <= 0) throw e;
        await this.#pause(Math.min(backoff.delay(), left));
      }
    }
  }

  /**
   * Calls callback(newConfig) after each change from now on, and waits for its promise.
   * @param {(config: any) => any} callback
   */
  subscribeUpdates(callback) {
    if (this.#closed.signal.aborted) throw new ConfigError("closed", "closed");
    this.#callbacks.push(callback);
    if (!this.#watching) {
      this.#watching = true;
      void this.#watch();
    }
  }

  /** Ends the subscription at once. It may be called more than once. */
  close() {
    this.#closed.abort();
  }

  async #watch() {
    const backoff = new Backoff();
    let etag = this.#newest?.etag ?? "";
    let down = "";
    while (!this.#closed.signal.aborted) {
      try {
        const got = await this.#get(etag, WAIT);
        if (got && "deleted" in got) throw new ConfigError(got.deleted, "not_found");
        down = "";
        if (!got) {
          backoff.reset();
          continue;
        }
        etag = got.etag; // also of an older one: the next answer is another
        if (this.#take(got)) {
          backoff.reset();
          await this.#deliver(got);
        } else {
          await this.#pause(backoff.delay());
        }
      } catch (e) {
        if (this.#closed.signal.aborted) return;
        const code = e instanceof ConfigError ? e.code : "internal";
        if (code !== down) this.#onProblem(`${this.serviceName}: ${/** @type {Error} */ (e).message}; the configuration in force stays`);
        down = code;
        await this.#pause(backoff.delay());
      }
    }
  }

  /** @param {Document} doc */
  async #deliver(doc) {
    if (this.#shown && this.#shown.etag === doc.etag && this.#shown.epoch === doc.epoch) return;
    let config;
    try {
      config = build(this.#model, doc.config);
    } catch (e) {
      return this.#reject(doc, /** @type {Error} */ (e).message);
    }
    for (const callback of this.#callbacks) {
      try {
        await callback(config);
      } catch (e) {
        return this.#reject(doc, `the callback threw ${e instanceof Error ? (e.stack ?? e.name) : "a value"}`);
      }
      if (this.#closed.signal.aborted) return;
    }
    this.#inForce(doc, config);
  }

  /** @param {Document} doc @param {string} reason */
  #reject(doc, reason) {
    this.rejected = { epoch: doc.epoch, version: doc.version, reason };
    this.#onProblem(`${this.serviceName}: version ${doc.version} is not taken over: ${reason}`);
    void this.#acknowledge(doc, "rejected", reason);
  }

  /** The first configuration, as the model has it. @param {Document} doc @param {Model | undefined} model */
  #accept(doc, model) {
    try {
      return build(model, doc.config);
    } catch (e) {
      const reason = /** @type {Error} */ (e).message;
      this.rejected = { epoch: doc.epoch, version: doc.version, reason };
      void this.#acknowledge(doc, "rejected", reason);
      throw e;
    }
  }

  /**
   * Tells the agent what became of a version, once. It may not want to hear it, and that is no error.
   * @param {Document} doc @param {string} status @param {string} reason
   */
  async #acknowledge(doc, status, reason) {
    if (!this.#acknowledges || doc.version < 1) return;
    const word = { version: doc.version, config_epoch: doc.epoch, status, worker: String(process.pid), ...(reason && { reason: reason.split(/\s+/).join(" ").slice(0, 250) }) };
    try {
      const body = JSON.stringify(word);
      const headers = { ...(await this.#headers()), "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
      const answer = await this.#request({ ...this.#where(), method: "POST", path: `/v1/ack/${encodeURIComponent(this.serviceName)}`, headers, agent: false, timeout: 10000 }, body);
      if ([401, 403, 404, 405, 501].includes(answer.status)) this.#acknowledges = false; // it will not take the next one either
    } catch {
      // the agent restarts, or this client is closed
    }
  }

  /** @param {Document} doc @param {any} config */
  #inForce(doc, config) {
    this.#shown = doc;
    this.config = config;
    this.version = doc.version;
    this.epoch = doc.epoch;
    void this.#acknowledge(doc, "applied", "");
  }

  /** Whether doc is newer than the newest, or has other values of the same version (secrets, environment). @param {Document} doc */
  #take(doc) {
    const have = this.#newest;
    if (this.#left.has(doc.epoch)) return false;
    if (have && have.epoch === doc.epoch) {
      if (doc.version < have.version || (doc.version === have.version && doc.etag === have.etag)) return false;
    } else if (have) {
      this.#left.add(have.epoch);
    }
    this.#newest = doc;
    return true;
  }

  /** @param {number} ms */
  #pause(ms) {
    const signal = this.#closed.signal;
    return /** @type {Promise<void>} */ (
      new Promise((resolve) => {
        if (signal.aborted) return resolve();
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", done);
          resolve();
        };
        const timer = setTimeout(done, ms);
        signal.addEventListener("abort", done);
      })
    );
  }

  /**
   * The document; undefined when it is still that of etag. Waits for another at most wait seconds.
   * @param {string} etag @param {number} wait
   * @returns {Promise<Document | {deleted: string} | undefined>}
   */
  async #get(etag, wait) {
    const headers = await this.#headers();
    if (etag) headers["If-None-Match"] = etag;
    const path = `/v1/config/${encodeURIComponent(this.serviceName)}${etag ? `?wait=${wait}s` : ""}`;
    const { status, answer, body } = await this.#request({ ...this.#where(), path, headers, agent: false, timeout: (wait + 10) * 1000 });
    if (status === 304) return undefined;
    let doc;
    try {
      doc = JSON.parse(body);
      if (status === 200) return { config: doc.config, epoch: doc.metadata.config_epoch, version: doc.metadata.version, etag: String(answer.etag ?? "") };
      if (typeof doc.code !== "string") throw new TypeError("no code");
    } catch {
      throw new ConfigError(`${this.#url.href} answers ${status}, not as an agent does`, "malformed");
    }
    if (status === 404 && "x-config-version" in answer) return { deleted: doc.error };
    throw new ConfigError(doc.error, doc.code, doc.hint);
  }

  /** @returns {Promise<Record<string, string>>} */
  async #headers() {
    const headers = { Accept: "application/json" };
    if (this.#tokenFile) headers["X-Holdfast-Token"] = (await this.#readToken(this.#tokenFile)).trim();
    else if (this.#token) headers["X-Holdfast-Token"] = this.#token;
    return headers;
  }

  #where() {
    return this.#url.protocol === "unix:" ? { socketPath: decodeURIComponent(this.#url.pathname) } : { host: this.#url.hostname.replace(/^\[|\]$/g, ""), port: this.#url.port || 80 };
  }

  /** @param {string} path */
  async #readToken(path) {
    try {
      return await readFile(path, "ascii");
    } catch (e) {
      throw new ConfigError(`the token of the agent cannot be read: ${/** @type {Error} */ (e).message}`, "unreachable");
    }
  }

  /** @param {http.RequestOptions} options @param {string} [sent] @returns {Promise<{status: number, answer: http.IncomingHttpHeaders, body: string}>} */
  #request(options, sent) {
    const signal = this.#closed.signal;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(new ConfigError("closed", "closed"));
      const failed = (/** @type {Error} */ e) =>
        reject(signal.aborted ? new ConfigError("closed", "closed") : new ConfigError(`the agent at ${this.#url.href} does not answer: ${e.message || e}`, "unreachable", "is it running?"));
      const request = http.request({ ...options, signal }, (answer) => {
        /** @type {Buffer[]} */ const parts = [];
        let size = 0;
        answer.on("data", (part) => {
          size += part.length;
          if (size > MAX_BODY) answer.destroy(new Error("the answer is too large"));
          else parts.push(part);
        });
        answer.on("error", failed);
        answer.on("end", () => {
          if (!answer.complete) return failed(new Error("the answer was cut off"));
          resolve({ status: answer.statusCode ?? 0, answer: answer.headers, body: Buffer.concat(parts).toString("utf8") });
        });
      });
      request.on("timeout", () => request.destroy(new Error("no answer in time")));
      request.on("error", failed);
      request.end(sent);
    });
  }
}

class Backoff {
  #next = 100;
  reset() {
    this.#next = 100;
  }
  delay() {
    const d = this.#next;
    this.#next = Math.min(d * 2, SLOWEST);
    return d * (0.5 + Math.random() / 2);
  }
}

/** @param {Model | undefined} model @param {Record<string, any>} config */
function build(model, config) {
  try {
    if (!model) return config;
    return typeof model === "function" ? model(config) : model.parse(config);
  } catch (e) {
    throw new ConfigRejected(`the model does not accept the configuration: ${names(e)}`);
  }
}

/** What a model says of a configuration; of zod the fields and what is wrong with each, without values. @param {any} e */
function names(e) {
  const issues = e?.issues;
  if (Array.isArray(issues)) return issues.map((i) => `${(i.path ?? []).join(".")}: ${i.code ?? "invalid"}`).join("; ");
  return e instanceof Error ? e.message : String(e);
}
