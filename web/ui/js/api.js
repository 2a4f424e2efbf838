// Talking to the server.

/** @typedef {{ path: string, line: number | null, message: string }} FieldError */

/** What the server said about a request it refused. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status @param {FieldError[]} fields */
  constructor(message, status, fields) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

const csrf = document.querySelector('meta[name="csrf"]')?.getAttribute("content") ?? "";

/**
 * @param {string} method @param {string} path below `/api/v1` @param {unknown} [body] @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
async function call(method, path, body, signal) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-csrf-token"] = csrf;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(`/api/v1${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError("the server does not answer; check that it runs", 0, []);
  }
  if (response.status === 204) return null;
  const text = await response.text();
  /** @type {any} */
  let answer = null;
  try {
    answer = text === "" ? null : JSON.parse(text);
  } catch {
    answer = null;
  }
  if (response.ok) return answer;
  const message = answer?.detail ?? answer?.title ?? `the server answered ${response.status}`;
  throw new ApiError(String(message), response.status, answer?.errors ?? []);
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => call("GET", path, undefined, signal);
/** @param {string} path @param {unknown} [body] @param {AbortSignal} [signal] */
export const post = (path, body, signal) => call("POST", path, body, signal);
/** @param {string} path */
export const remove = (path) => call("DELETE", path);

/**
 * The sentence of an error, for people.
 * @param {unknown} error
 */
export function sentence(error) {
  return error instanceof Error ? error.message : String(error);
}
