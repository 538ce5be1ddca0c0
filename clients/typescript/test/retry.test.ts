// What is sent again, and after how long: against a network that fails as told.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient } from "../src/index.js";
import { DEFAULT_RETRY, retryAfterMs, waitBefore } from "../src/retry.js";

type Step = number | Error;

/** A client of a network that takes these steps, the last again and again, and the requests that it saw. */
function failing(steps: Step[]) {
  const seen: { key: string | null; body: string }[] = [];
  const fetch = async (request: Request) => {
    seen.push({ key: request.headers.get("Idempotency-Key"), body: await request.text() });
    const step = steps[Math.min(seen.length, steps.length) - 1] ?? 200;
    if (step instanceof Error) throw step;
    return Response.json({}, { status: step });
  };
  const client = createClient({ baseUrl: "http://test", apiKey: "key", retry: { firstBoundMs: 1 }, fetch });
  return { client, seen };
}

const user = { params: { path: { id: "ada" } } };

test("what passes is asked again", async () => {
  for (const step of [429, 502, 503, 504, new TypeError("refused")]) {
    const { client, seen } = failing([step, step, 200]);
    const { response } = await client.GET("/api/v1/users/{id}", user);
    assert.deepEqual([response.status, seen.length], [200, 3]);
  }
});

test("what stays is not", async () => {
  for (const step of [400, 404, 409, 500]) {
    const { client, seen } = failing([step]);
    const { response } = await client.GET("/api/v1/users/{id}", user);
    assert.deepEqual([response.status, seen.length], [step, 1]);
  }
});

test("a write is sent again only with its key", async () => {
  const without = failing([503]);
  await without.client.POST("/api/v1/keys", { body: { name: "a", permission: "read" } });
  assert.equal(without.seen.length, 1);
  const { client, seen } = failing([503, new TypeError("cut"), 201]);
  await client.POST("/api/v1/entities", { body: { entity_id: "e" } });
  assert.equal(seen.length, 3);
  assert.ok(seen[0]?.key && new Set(seen.map(({ key }) => key)).size === 1);
  assert.deepEqual(new Set(seen.map(({ body }) => body)), new Set(['{"entity_id":"e"}']));
});

test("the last failure is told", async () => {
  const { client, seen } = failing([new TypeError("refused")]);
  await assert.rejects(client.GET("/api/v1/users/{id}", user), /refused/);
  assert.equal(seen.length, DEFAULT_RETRY.attempts);
});

test("an attempt has an end, and a caller may give up", async () => {
  let seen = 0;
  const hanging = (request: Request) => {
    seen += 1;
    return new Promise<Response>((_, reject) => {
      request.signal.addEventListener("abort", () => reject(request.signal.reason));
    });
  };
  const retry = { attempts: 2, firstBoundMs: 1 };
  const client = createClient({ baseUrl: "http://test", apiKey: "key", retry, timeoutMs: 20, fetch: hanging });
  await assert.rejects(client.GET("/api/v1/users/{id}", user), { name: "TimeoutError" });
  assert.equal(seen, 2);
  const patient = createClient({ baseUrl: "http://test", apiKey: "key", fetch: hanging });
  const caller = new AbortController();
  setTimeout(() => caller.abort(new Error("no longer wanted")), 20);
  const asked = patient.GET("/api/v1/users/{id}", { ...user, signal: caller.signal });
  await assert.rejects(asked, /no longer wanted/);
  assert.equal(seen, 3);
});

test("waits are jittered and honour the server", () => {
  const busy = (after: string) => new Response(null, { status: 503, headers: { "Retry-After": after } });
  const at = (random: number) => ({ ...DEFAULT_RETRY, random: () => random });
  assert.deepEqual([1, 2, 3, 4].map((attempt) => waitBefore(at(0.5), attempt)), [100, 200, 400, undefined]);
  assert.equal(waitBefore(at(0), 1, busy("2")), 2_000);
  assert.equal(waitBefore(at(0), 1, busy("31")), undefined);
  const inAMinute = retryAfterMs(new Date(Date.now() + 60_000).toUTCString()) ?? 0;
  assert.ok(inAMinute > 55_000 && inAMinute <= 60_000);
  assert.equal(retryAfterMs("soon"), undefined);
});
