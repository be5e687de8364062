// Budgets, and what is left of each.

/** The section with a customer's budgets. */
function budgetsSection(customer) {
  return section("Budgets", async (body) => {
    const { budgets } = await get(`${pathOf("customers", customer)}/budgets`);
    fill(
      body,
      budgets.length
        ? h("ul", { className: "cards" }, budgets.map(budgetCard))
        : h("p", { className: "quiet" }, "This customer has no budget: nothing limits what it spends."),
    );
  });
}

function budgetCard(budget) {
  const amount = (value) => money(value, budget.unit);
  const [limit, spent, reserved] = [budget.limit, budget.spent, budget.reserved].map(Number);
  const share = (value) => (limit > 0 ? Math.min(100, (100 * value) / limit) : value > 0 ? 100 : 0);
  const isExhausted = spent >= limit;
  const bar = h("div", {
    className: `meter ${isExhausted ? "full" : ""}`,
    role: "img",
    "aria-label": `${amount(budget.spent)} of ${amount(budget.limit)} is spent, ${amount(budget.reserved)} is reserved.`,
  });
  const parts = [
    ["spent", share(spent)],
    ["reserved", Math.min(share(reserved), 100 - share(spent))],
  ].map(([name, width]) => {
    const part = h("span", { className: name });
    part.style.width = `${width}%`;
    return part;
  });
  const marks = budget.thresholds
    .filter((percent) => percent < 100)
    .map((percent) => {
      const mark = h("i", { title: `${percent} %` });
      mark.style.left = `${percent}%`;
      return mark;
    });
  fill(bar, parts, marks);
  const scope = [budget.connection && `connection ${budget.connection}`, budget.model && `model ${budget.model}`]
    .filter(Boolean)
    .join(", ");
  return h(
    "li",
    null,
    h(
      "h3",
      null,
      h("span", { className: "name" }, budget.name),
      h("span", { className: "badge" }, `each ${budget.period}`),
      h("span", { className: "badge" }, budget.enforce),
      isExhausted && h("span", { className: "badge failed" }, "exhausted"),
    ),
    bar,
    facts("facts", [
      ["Limit", amount(budget.limit)],
      ["Spent", amount(budget.spent)],
      ["Reserved", amount(budget.reserved)],
      ["Left", amount(budget.remaining)],
    ]),
    h(
      "p",
      { className: "quiet" },
      `Since ${budget.period_start.slice(0, 10)}${scope ? `; only ${scope}` : ""}; set by the ${budget.owner}.`,
    ),
  );
}
