// The whole way with the generated TypeScript client: onboard, submit, wait, read the result and the usage, cancel.
import createClient from "openapi-fetch";
import type { components, paths } from "./customer-ai-jobs.js";

declare const process: { argv: string[] };
const [baseUrl, customer, endpoint, key] = process.argv.slice(2) as [string, string, string, string];
const client = createClient<paths>({ baseUrl, headers: { "x-functions-key": "any" } });

function body<T>(answer: { data?: T; error?: components["schemas"]["ProblemDocument"] }): T {
  if (answer.data === undefined) throw new Error(answer.error?.detail);
  return answer.data;
}

const job = (job_id: string) => ({ params: { path: { customer, job_id } } });
const connection = { path: { customer, name: "default" } };
const seen: Record<string, unknown> = { health: body(await client.GET("/health")).status };

const stored = body(
  await client.PUT("/customers/{customer}/connections/{name}", {
    params: connection,
    body: { endpoint, provider: "azure_openai", api_key: key, default_model: "gpt-4o" },
  }),
);
const tested = body(
  await client.POST("/customers/{customer}/connections/{name}/test", { params: connection, body: {} }),
);
const { connections } = body(
  await client.GET("/customers/{customer}/connections", { params: { path: { customer } } }),
);
seen.connection = [stored.settings?.default_model, tested.ok, connections.map((each) => each.name)];

const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hello?" },
];
body(
  await client.POST("/jobs", {
    body: {
      customer,
      action: "chat",
      job_id: "generated-1",
      input: { messages, parameters: { temperature: 0.3 } },
    },
  }),
);
const ended = ["succeeded", "partial", "failed", "cancelled"];
let status = body(await client.GET("/jobs/{customer}/{job_id}", job("generated-1"))).status;
while (!ended.includes(status)) {
  await new Promise((resolve) => setTimeout(resolve, 200));
  status = body(await client.GET("/jobs/{customer}/{job_id}", job("generated-1"))).status;
}
const result = body(await client.GET("/jobs/{customer}/{job_id}/result", job("generated-1")));
seen.result = [status, result.status, result.output?.text, result.usage.calls];
seen.tokens = [result.usage.input_tokens, result.usage.output_tokens];

const waited = body(
  await client.POST("/jobs", {
    params: { header: { Prefer: "wait=30" } },
    body: { customer, action: "chat", job_id: "generated-2", input: { prompt: "Hello?" } },
  }),
);
if (!("usage" in waited)) throw new Error("no result yet");
seen.waited = waited.output?.text;

const run_at = new Date(Date.now() + 3_600_000).toISOString();
body(
  await client.POST("/jobs", {
    body: { customer, action: "chat", job_id: "generated-3", input: { prompt: "Hello?" }, options: { run_at } },
  }),
);
seen.cancelled = body(await client.DELETE("/jobs/{customer}/{job_id}", job("generated-3"))).status;

const statement = body(
  await client.GET("/customers/{customer}/usage", { params: { path: { customer }, query: { by: "model" } } }),
);
if (typeof statement === "string") throw new Error("CSV was not requested");
const today = new Date().toISOString().slice(0, 10);
const everybody = body(
  await client.GET("/usage", { params: { query: { from: "2026-11-01", to: today } } }),
);
if (typeof everybody === "string") throw new Error("CSV was not requested");
seen.all_usage = everybody.lines.filter((line) => line.customer === customer).map((line) => line.calls);
seen.usage = [statement.totals.answered.calls, statement.lines.map((line) => line.model)];
const page = body(
  await client.GET("/customers/{customer}/jobs", { params: { path: { customer }, query: { limit: 2 } } }),
);
seen.jobs = page.jobs.map((each) => each.job_id);
const batches = await client.GET("/customers/{customer}/batches", { params: { path: { customer }, query: { limit: 1 } } });
seen.batches = body(batches).batches.length;
seen.customers = body(await client.GET("/customers", { params: { query: { limit: 1 } } })).customers.length;
const missing = await client.GET("/jobs/{customer}/{job_id}", job("no-such-job"));
const unsigned = await client.POST("/webhooks/{customer}", {
  params: { path: { customer }, header: { "webhook-id": "msg_1" } },
  body: { action: "chat" },
});
const event = await client.POST("/provider-events/{customer}/{connection}", {
  params: { path: { customer, connection: "default" }, header: { "webhook-id": "evt_1" } },
  body: {},
});
const tools = await client.POST("/mcp", { body: { jsonrpc: "2.0", id: 1, method: "ping" } });
seen.agents = tools.response.status;
seen.problems = [missing.error?.code, unsigned.error?.code, event.error?.code];

const own = { params: { path: { customer } } };
body(await client.PUT("/customers/{customer}/profile", { ...own, body: { legal_name: "Contoso", currency: "USD" } }));
body(await client.PUT("/customers/{customer}/state", { ...own, body: { state: "active" } }));
const month = new Date().toISOString().slice(0, 7);
const credit = { id: "credit-1", month, amount: "-5", currency: "USD", description: "Credit" };
body(await client.POST("/customers/{customer}/adjustments", { ...own, body: credit }));
const profile = body(await client.GET("/customers/{customer}/profile", own));
const { state } = body(await client.GET("/customers/{customer}/state", own));
const { adjustments } = body(await client.GET("/customers/{customer}/adjustments", own));
const { entries } = body(await client.GET("/customers/{customer}/audit", own));
const subjects = entries.map((each) => each.subject);
seen.account = [profile.legal_name, state, adjustments[0]?.amount, subjects];
const { statements } = body(await client.GET("/customers/{customer}/statements", own));
const unclosed = await client.GET("/customers/{customer}/statements/{statement}", {
  params: { path: { customer, statement: month } },
});
seen.closed = [statements.length, unclosed.error?.code];

const budget = { params: { path: { customer, name: "calls" } } };
body(
  await client.PUT("/customers/{customer}/budgets/{name}", {
    ...budget,
    body: { limit: "5", unit: "jobs", period: "day" },
  }),
);
const { remaining } = body(await client.GET("/customers/{customer}/budgets/{name}", budget));
const { budgets } = body(await client.GET("/customers/{customer}/budgets", own));
const removed = await client.DELETE("/customers/{customer}/budgets/{name}", budget);
seen.budgets = [remaining, budgets.map((each) => each.name), removed.response.status];

const path = "/customers/{customer}/connections/{name}";
const tag = (await client.GET(path, { params: connection })).response.headers.get("ETag") ?? "";
const unchanged = await client.GET(path, { params: { ...connection, header: { "If-None-Match": tag } } });
const deleted = await client.DELETE(path, { params: { ...connection, header: { "If-Match": tag } } });
seen.deleted = [unchanged.response.status, deleted.response.status];
const document = body(await client.GET("/openapi.json"));
const html = body(await client.GET("/docs", { parseAs: "text" }));
const shown = body(await client.GET("/console", { parseAs: "text" }));
seen.documents = [document.openapi, html.slice(0, 15), shown.slice(0, 15)];
console.log(JSON.stringify(seen));
