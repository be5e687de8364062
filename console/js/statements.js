// Closed months: documents to open and to save.

const STATEMENT_COLUMNS = [["Statement"], ["Month"], ["Total", "number"], ["Closed"], ["Documents"]];
const FILES = { json: "application/json", csv: "text/csv", html: "text/html" };

/** The section with a customer's statements and their corrections. */
function statementsSection(customer) {
  const path = `${pathOf("customers", customer)}/statements`;
  return section("Statements", async (body) => {
    const { statements } = await get(path);
    const rows = statements.map((statement) => statementCells(customer, path, statement));
    fill(
      body,
      rows.length
        ? h("div", { className: "scroll" }, table("Closed months, newest first", STATEMENT_COLUMNS, rows))
        : h("p", { className: "quiet" }, "No month is closed yet."),
    );
  });
}

function statementCells(customer, path, { month, correction, number, total, currency, closed_at, files }) {
  const name = correction ? `${month}-${correction}` : month;
  const place = `${path}/${encodeURIComponent(name)}`;
  const listed = Object.keys(FILES).filter((ending) => files?.[ending]);
  const saves = listed.map((ending) =>
    button(
      ending.toUpperCase(),
      (event) => save(event.target, place, null, FILES[ending], `statement-${customer}-${name}.${ending}`),
      { className: "small", "aria-label": `Save ${number} as ${ending.toUpperCase()}` },
    ),
  );
  return [
    h("span", { className: "name" }, number),
    [month, correction && h("span", { className: "quiet block" }, `correction ${correction}`)],
    money(total, currency),
    time(closed_at),
    h(
      "div",
      { className: "actions" },
      button("Open", (event) => openStatement(event.target, place, null, `${number}: ${month}, ${customer}`), {
        className: "small primary",
        "aria-label": `Open ${number}`,
      }),
      saves,
    ),
  ];
}

/** Shows a statement's page over this one, in a frame in which no script runs and from which nothing is loaded. */
function openStatement(control, path, query, title) {
  const work = async () => {
    const text = await (await send(path, query, FILES.html)).text();
    if (control.isConnected) showDocument(title, text); // else the reader has gone on
  };
  return runFrom(control, work, (error) => control.parentElement.append(failure(error)));
}

function closeDocuments() {
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
}

function showDocument(title, text) {
  // This page's policy, which the frame has too, allows no other page's style element: it becomes a style sheet.
  const styles = [];
  const page = text.replace(/<style>([^]*?)<\/style>/g, (_, rules) => {
    styles.push(rules);
    return "";
  });
  const url = URL.createObjectURL(new Blob([page], { type: "text/html; charset=utf-8" }));
  const frame = h("iframe", { sandbox: "allow-same-origin allow-modals", title, src: url });
  const close = button("Close", () => dialog.close(), { autofocus: true });
  const print = button("Print", () => frame.contentWindow.print());
  const dialog = h(
    "dialog",
    { className: "document", "aria-label": title, onclose: () => remove() },
    h("div", { className: "title" }, h("h2", null, title), print, close),
    frame,
  );
  const remove = () => {
    URL.revokeObjectURL(url);
    dialog.remove();
  };
  frame.addEventListener("load", () => adopt(frame.contentDocument, styles));
  document.body.append(dialog);
  dialog.showModal();
}

/** Gives a page its style sheets. */
function adopt(page, styles) {
  page.adoptedStyleSheets = styles.map((rules) => {
    const sheet = new page.defaultView.CSSStyleSheet();
    sheet.replaceSync(rules);
    return sheet;
  });
}
