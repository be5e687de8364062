// All customers: what each used in a month, with a link to it.

const CUSTOMERS_ON_A_PAGE = 200;
const ADDED_UP_UNASKED = 20; // statements; each costs the app a read of the customer's usage
const AT_ONCE = 3;

/** The sections of the page of all customers. */
function overview(month) {
  const totals = h("div");
  const days = h("div");
  const csv = button("CSV", (event) => save(event.target, "usage", { month }, "text/csv", `usage-${month}.csv`), {
    className: "small",
  });
  return [
    section("Usage by customer", (body) => showOverview(body, totals, days, month), csv),
    days,
    section("Customers", (body) => showCustomers(body, month)),
  ];
}

async function showOverview(body, totals, days, month) {
  const lines = [];
  const columns = [
    ["Customer"],
    ["Amount", "number"],
    ["Jobs", "number"],
    ["Calls", "number"],
    ["Input tokens", "number"],
    ["Output tokens", "number"],
    ["Unpriced", "number"],
  ];
  const list = growingTable("Usage by customer", columns);
  fill(body, totals);
  const holder = h("div");
  await pages(
    holder,
    list,
    async (continuation) => {
      const page = await get("usage", { month, limit: CUSTOMERS_ON_A_PAGE, continuation });
      lines.push(...page.lines);
      fill(totals, overviewTotals(lines, Boolean(page.continuation)));
      fill(
        days,
        lines.length
          ? daysSection(
              lines.map(({ customer }) => customer),
              month,
            )
          : null,
      );
      return [page.lines, page.continuation];
    },
    {
      add: (table, line) => table.add(overviewCells(line, month)),
      added: (table) => drawShares(table.element),
      empty: `No customer used anything in ${monthName(month)}.`,
      more: "More customers",
    },
  );
  fill(body, totals, holder);
}

function overviewCells(line, month) {
  const uncertainCalls = (line.lost ?? 0) + (line.unanswered ?? 0);
  return [
    customerLink(line.customer, month),
    [
      money(line.amount, line.currency),
      h("span", {
        className: "share",
        "data-amount": line.amount,
        "data-currency": line.currency,
        "aria-hidden": "true",
      }),
    ],
    count(line.jobs),
    [
      count(line.calls),
      uncertainCalls > 0 && h("span", { className: "quiet block" }, `+ ${grouped(uncertainCalls)} not certain`),
    ],
    count(line.input_tokens),
    count(line.output_tokens),
    line.unpriced === undefined ? "–" : line.unpriced > 0 ? h("b", { className: "warn" }, grouped(line.unpriced)) : "0",
  ];
}

/** Makes each line under an amount as long as its part of the largest one in its currency. */
function drawShares(element) {
  const shares = [...element.querySelectorAll("[data-amount]")];
  const largest = {};
  for (const { dataset } of shares)
    largest[dataset.currency] = Math.max(largest[dataset.currency] ?? 0, Number(dataset.amount));
  for (const each of shares)
    each.style.width = `${largest[each.dataset.currency] > 0 ? (100 * Number(each.dataset.amount)) / largest[each.dataset.currency] : 0}%`;
}

/** The sums over the customers that were read; amounts of different currencies are not added. */
function overviewTotals(lines, isPart) {
  if (!lines.length) return null;
  const currencies = [
    ...new Set(lines.filter((line) => line.amount !== undefined).map((line) => line.currency)),
  ].sort();
  const spend = currencies.map((currency) => [
    "Spend",
    money(
      sumOf(
        lines.filter((line) => line.currency === currency),
        "amount",
      ),
      currency,
    ),
  ]);
  const entries = [
    ["Customers", count(lines.length)],
    ...spend,
    ...[
      ["Jobs", "jobs"],
      ["Calls", "calls"],
      ["Input tokens", "input_tokens"],
      ["Output tokens", "output_tokens"],
    ].map(([title, name]) => [title, count(sumOf(lines, name))]),
  ];
  return [
    facts("tiles", entries),
    isPart && note("info", "These are the sums over the customers below. There are more."),
    lines.every((line) => line.unpriced === undefined) && noPriceBook(),
  ];
}

/** The usage of these customers by day and model: their statements, added up here. */
function daysSection(names, month) {
  let isWanted = names.length <= ADDED_UP_UNASKED;
  const element = section("By day and model", async (body) => {
    if (isWanted) return showDays(body, await statementsOf(names, month, body), month);
    const want = () => {
      isWanted = true;
      element.reload();
    };
    fill(body, button(`Add up the statements of these ${grouped(names.length)} customers`, want));
  });
  return element;
}

/** A statement of each customer, a few at once; of no more once `body` is shown no more. */
async function statementsOf(names, month, body) {
  const statements = [];
  const waiting = [...names];
  await null; // the section is put on the page first
  const work = async () => {
    while (waiting.length && body.isConnected) {
      statements.push(await get(`${pathOf("customers", waiting.shift())}/usage`, { month, by: "day,model" }));
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } finally {
    waiting.length = 0; // after a failure, the others need no more either
  }
  return statements;
}

/** The chart and the lines of several statements. Amounts of different currencies are not added: calls are shown. */
function showDays(body, statements, month) {
  const currencies = new Set(statements.map(({ totals }) => totals.answered.currency).filter(Boolean));
  const [currency] = currencies.size === 1 ? currencies : [];
  const lines = statements
    .flatMap((statement) => statement.lines.filter((line) => line.kind === undefined))
    .map((line) => (currency ? line : { ...line, amount: undefined }));
  const mixed =
    currencies.size > 1 &&
    note(
      "info",
      `The customers have different currencies (${[...currencies].sort().join(", ")}), so their amounts are not added.`,
    );
  fill(body, mixed, chartAndLines(lines, currency, month));
}

/** Everybody with a connection or a record, also those who used nothing in the month. */
async function showCustomers(body, month) {
  const element = h("ul", { className: "names" });
  const list = {
    element,
    add: (name) => element.append(h("li", null, customerLink(name, month))),
    size: () => element.children.length,
    isEmpty: () => element.children.length === 0,
    focusRow: (index) => element.children[index]?.querySelector("a").focus(),
  };
  const read = async (continuation) => {
    const page = await get("customers", { limit: 100, continuation });
    rememberCustomers(page.customers.map(({ customer }) => customer));
    return [page.customers, page.continuation];
  };
  await pages(body, list, read, {
    add: (each, { customer }) => each.add(customer),
    empty: "There are no customers yet.",
    more: "More customers",
  });
}

function customerLink(customer, month) {
  return h("a", { href: addressOf(customer, month), className: "name" }, customer);
}
