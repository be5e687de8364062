// What a month cost: totals, a chart by day and model, and a line for each model.

const METRICS = {
  amount: { title: "Amount", of: (line) => line.amount, text: (value, currency) => money(value, currency) },
  calls: { title: "Calls", of: (line) => String(line.calls), text: (value) => count(value) },
  tokens: {
    title: "Tokens",
    of: ({ input_tokens: input, output_tokens: output }) =>
      input === undefined && output === undefined ? undefined : String((input ?? 0) + (output ?? 0)),
    text: (value) => count(value),
  },
};
const COLOURS = 7; // the eighth is for all other models
const OTHER = "all others";

/** The section with a customer's usage in a month. */
function usageSection(customer, month) {
  const path = `${pathOf("customers", customer)}/usage`;
  const csv = button(
    "CSV",
    (event) => save(event.target, path, { month, by: "day,model" }, "text/csv", `usage-${customer}-${month}.csv`),
    { className: "small" },
  );
  const open = button("Open", (event) => openStatement(event.target, path, { month }, `Usage: ${month}, ${customer}`), {
    className: "small",
    "aria-label": "Open the usage as a page",
  });
  const load = async (body) => showUsage(body, await get(path, { month, by: "day,model" }), month);
  return section("Usage", load, open, csv);
}

/** Saves a document, and says beside the button if that fails. */
function save(control, path, query, accept, name) {
  const work = async () => {
    await download(path, query, accept, name);
    announce(`${name} is saved.`);
  };
  return runFrom(control, work, (error) => control.after(failure(error)));
}

function showUsage(body, statement, month) {
  const { answered } = statement.totals;
  const lines = statement.lines.filter((line) => line.kind === undefined);
  const parts = [tiles(answered), uncertain(statement.totals), unpriced(statement, answered)];
  if (!lines.length) {
    fill(body, parts, h("p", { className: "quiet" }, `Nothing was used in ${monthName(month)}.`));
    return;
  }
  fill(body, parts, chartAndLines(lines, answered.currency, month));
}

/** The chart of what was answered, and a line for each model. Without a currency there are no amounts. */
function chartAndLines(lines, currency, month) {
  const series = byModel(lines.filter((line) => line.outcome === "answered"));
  return [
    series.length ? chartWithControls(series, currency, month) : null,
    modelTable(byModel(lines, true), currency),
  ];
}

/** The most important totals, large. */
function tiles(totals) {
  const { currency } = totals;
  const entries = [
    totals.amount !== undefined && ["Spend", money(totals.amount, currency)],
    totals.saved !== undefined && Number(totals.saved) !== 0 && ["Saved", money(totals.saved, currency)],
    totals.list_amount !== undefined &&
      totals.list_amount !== totals.amount && ["Before markup", money(totals.list_amount, currency)],
    ["Jobs", count(totals.jobs)],
    ["Calls", count(totals.calls)],
    ["Input tokens", count(totals.input_tokens)],
    ["Output tokens", count(totals.output_tokens)],
    totals.images !== undefined && ["Images", count(totals.images)],
  ];
  return facts("tiles", entries.filter(Boolean));
}

/** What may have been paid for, and is in no total above. */
function uncertain(totals) {
  const sentences = [
    ["lost", "had an answer that got lost"],
    ["unanswered", "had no answer"],
  ]
    .filter(([outcome]) => totals[outcome].records > 0)
    .map(([outcome, what]) => {
      const { records, amount, currency } = totals[outcome];
      return `${grouped(records)} ${records === 1 ? "call" : "calls"} ${what}${amount === undefined ? "" : `, at ${money(amount, currency)}`}`;
    });
  return sentences.length
    ? note("info", `Not in these totals, because it is not certain: ${sentences.join("; ")}.`)
    : null;
}

/** What has no amount, and why. */
function unpriced(statement, totals) {
  if (totals.unpriced === undefined) return noPriceBook();
  // Of a call without an answer nobody knows what it used: it is not a price that is missing.
  const missing = (statement.unpriced ?? []).filter(({ outcome }) => outcome !== "unanswered");
  if (!missing.length) return null;
  return note(
    "warning",
    h("p", null, "These calls have no price, and are in no amount:"),
    h(
      "ul",
      null,
      missing.map(({ model, records, reason }) =>
        h(
          "li",
          null,
          h("b", null, model),
          `: ${grouped(records)} ${records === 1 ? "call" : "calls"}`,
          reason && `. ${reason}`,
        ),
      ),
    ),
  );
}

function noPriceBook() {
  return note("info", "The operator has published no price book, so there are no amounts: the page shows counts.");
}

/** Lines by model, the most expensive first. Each also by outcome if `separately`. */
function byModel(lines, separately = false) {
  const models = new Map();
  for (const line of lines) {
    const key = JSON.stringify([line.model, separately ? line.outcome : ""]);
    if (!models.has(key)) models.set(key, { model: line.model, outcome: line.outcome, lines: [] });
    models.get(key).lines.push(line);
  }
  const size = (entry, name) => Number(sum(entry.lines, METRICS[name]) ?? 0);
  return [...models.values()]
    .map((entry) => ({ ...entry, amount: size(entry, "amount"), calls: size(entry, "calls") }))
    .sort(
      (one, other) => other.amount - one.amount || other.calls - one.calls || (one.model < other.model ? -1 : 1),
    );
}

/** The exact sum over lines; undefined if none of them has a value. */
function sum(lines, metric) {
  const values = lines.map(metric.of).filter((value) => value !== undefined && value !== null);
  return values.length ? addDecimals(values) : undefined;
}

function sumOf(lines, name) {
  return sum(lines, { of: (line) => (line[name] === undefined ? undefined : String(line[name])) });
}

/** A line for each model, with the colour that it has in the chart. */
function modelTable(models, currency) {
  const hasAmounts = models.some(({ lines }) => sumOf(lines, "amount") !== undefined);
  const columns = [
    ["Model"],
    ...(hasAmounts ? [["Amount", "number"]] : []),
    ["Calls", "number"],
    ["Input tokens", "number"],
    ["Output tokens", "number"],
  ];
  const answered = models.filter(({ outcome }) => outcome === "answered");
  const rows = models.map((entry) => [
    [
      swatch(answered.indexOf(entry)),
      h("span", { className: "name" }, entry.model),
      entry.outcome !== "answered" && h("span", { className: "badge" }, entry.outcome),
    ],
    ...(hasAmounts ? [money(sumOf(entry.lines, "amount"), currency)] : []),
    ...["calls", "input_tokens", "output_tokens"].map((name) => count(sumOf(entry.lines, name))),
  ]);
  return h("div", { className: "scroll" }, table("Usage by model", columns, rows));
}

function swatch(index) {
  return index < 0 ? null : h("span", { className: `swatch colour${Math.min(index, COLOURS)}`, "aria-hidden": "true" });
}
