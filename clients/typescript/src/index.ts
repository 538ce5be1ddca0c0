// A typed client of Watershed: every operation of the OpenAPI document by its address, as `openapi-fetch` has them.

import createFetchClient, { type Client, type Middleware } from "openapi-fetch";

import { DEFAULT_RETRY, type Retry, retrying } from "./retry.js";
import type { components, paths } from "./schema.js";

export type { Retry } from "./retry.js";
export type { components, operations, paths } from "./schema.js";
/** What is sent and answered, by name. */
export type Schemas = components["schemas"];

export interface Options {
  baseUrl: string;
  apiKey: string;
  /** How long an answer may take to begin, in each attempt; 30 seconds where missing. */
  timeoutMs?: number;
  retry?: Partial<Retry>;
  /** In place of the global `fetch`. */
  fetch?: (request: Request) => Promise<Response>;
}

/** The POSTs and PATCHes that are done once for each `Idempotency-Key`. They get one, so that they can be sent again. */
export const KEYED: readonly (keyof paths)[] = [
  "/api/v1/entities",
  "/api/v1/entities/bulk",
  "/api/v1/entities/{id}",
  "/api/v1/interactions",
  "/api/v1/interactions/bulk",
];

/** Makes a client. */
export function createClient(options: Options): Client<paths> {
  const { baseUrl, apiKey, timeoutMs = 30_000, fetch = globalThis.fetch } = options;
  const client = createFetchClient<paths>({
    baseUrl,
    headers: { Authorization: `Bearer ${apiKey}` },
    fetch: retrying((request) => fetch(request), { ...DEFAULT_RETRY, ...options.retry }, timeoutMs),
  });
  client.use(withKey);
  return client;
}

const withKey: Middleware = {
  onRequest({ request, schemaPath }) {
    const writes = request.method === "POST" || request.method === "PATCH";
    if (writes && (KEYED as readonly string[]).includes(schemaPath) && !request.headers.has("Idempotency-Key")) {
      request.headers.set("Idempotency-Key", crypto.randomUUID());
    }
    return request;
  },
};

/** The server refused the request (RFC 9457). */
export class WatershedError extends Error {
  override readonly name = "WatershedError";
  readonly status: number;
  /** Stable; what a program looks at. */
  readonly code: string;
  /** The field or parameter it is about. */
  readonly field: string | undefined;
  /** Names the request in the server's log. */
  readonly requestId: string | undefined;

  constructor(response: Response, problem: Partial<Schemas["Problem"]>) {
    const code = problem.code ?? "UNKNOWN";
    super(`${response.status} ${code}: ${problem.detail ?? "the answer is not from Watershed"}`);
    this.status = response.status;
    this.code = code;
    this.field = problem.field ?? undefined;
    this.requestId = response.headers.get("X-Request-Id") ?? undefined;
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** What the server answered; throws a {@link WatershedError} where it refused. */
export async function unwrap<T>(asked: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await asked;
  if (response.ok) return data as T;
  const problem = typeof error === "object" && error !== null ? error : {};
  throw new WatershedError(response, problem as Partial<Schemas["Problem"]>);
}

/** Every page of a list, by following `next_cursor`. */
export async function* pages<T extends { next_cursor?: string | null }>(
  ask: (cursor: string | undefined) => Promise<T>,
): AsyncGenerator<T, void> {
  let cursor: string | undefined;
  do {
    const page = await ask(cursor);
    yield page;
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
}
