// The client against a real server, whose address is in `WATERSHED_URL`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { createClient, KEYED, pages, unwrap, WatershedError } from "../src/index.js";

const baseUrl = process.env["WATERSHED_URL"] ?? "";
const apiKey = process.env["WATERSHED_API_KEY"] ?? "";
const client = createClient({ baseUrl, apiKey });
const name = (kind: string) => `${kind}-${crypto.randomUUID()}`;

test("an interaction shows in the next answer", async () => {
  const [film, user] = [name("film"), name("user")];
  const attributes = { title: "The Long Road", year: 1994 };
  const made = await unwrap(
    client.POST("/api/v1/entities", { body: { entity_id: film, entity_type: "film", attributes } }),
  );
  assert.deepEqual(made.attributes, attributes);
  const like = { user_id: user, entity_id: film, entity_type: "film", interaction_type: "like" };
  await unwrap(client.POST("/api/v1/interactions", { body: like }));
  const params = { path: { id: user }, query: { count: 5, explain: true } };
  const answer = await unwrap(client.GET("/api/v1/recommendations/user/{id}", { params }));
  assert.equal(answer.recommendations.length, 5);
  assert.ok(answer.recommendations.every((line) => line.entity_id !== film));
});

test("an error says what to do", async () => {
  const asked = unwrap(client.GET("/api/v1/recommendations/popular", { params: { query: { count: 0 } } }));
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof WatershedError && error.requestId);
    assert.deepEqual([error.status, error.code, error.field], [400, "VALIDATION_ERROR", "count"]);
    return true;
  });
  const stranger = createClient({ baseUrl, apiKey: "no-such-key" });
  await assert.rejects(unwrap(stranger.GET("/api/v1/keys")), { code: "AUTH_ERROR" });
});

test("pages follow the cursor to the end", async () => {
  for (let number = 0; number < 5; number += 1) {
    await unwrap(client.POST("/api/v1/keys", { body: { name: `key ${number}`, permission: "read" } }));
  }
  const sequences: number[] = [];
  for await (const page of pages((cursor) =>
    unwrap(client.GET("/api/v1/audit", { params: { query: { limit: 2, cursor } } })),
  )) {
    sequences.push(...page.entries.map((entry) => entry.sequence));
  }
  assert.ok(sequences.length >= 5);
  assert.deepEqual(sequences, sequences.map((_, place) => sequences.length - place));
});

test("ids may hold anything, and what was deleted is gone", async () => {
  const odd = name("a b/c?d#e");
  await unwrap(client.POST("/api/v1/entities", { body: { entity_id: odd } }));
  const params = { path: { id: odd } };
  assert.equal((await unwrap(client.GET("/api/v1/entities/{id}", { params }))).entity_id, odd);
  assert.equal(await unwrap(client.DELETE("/api/v1/entities/{id}", { params })), undefined);
  await assert.rejects(unwrap(client.GET("/api/v1/entities/{id}", { params })), { status: 404 });
});

test("the operations that take a key are those of the document", () => {
  const file = new URL("../../../../docs/generated/openapi.json", import.meta.url);
  const document = JSON.parse(readFileSync(file, "utf8")) as {
    paths: Record<string, Record<string, { parameters?: { name: string }[] }>>;
  };
  const takesKey = (item: Record<string, { parameters?: { name: string }[] }>) =>
    ["post", "patch"].some((method) => item[method]?.parameters?.some((one) => one.name === "Idempotency-Key"));
  const keyed = Object.entries(document.paths).filter(([, item]) => takesKey(item));
  assert.deepEqual(keyed.map(([path]) => path).sort(), [...KEYED].sort());
});
