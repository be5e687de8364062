// A part of the page that loads by itself: while it waits, when it has something, when it has nothing, when it fails.

/** A section with a heading. `load(body)` fills the body, and may throw ApiError. */
function section(title, load, ...controls) {
  const body = h("div", { className: "body" });
  const element = h("section", { "aria-label": title }, h("div", { className: "title" }, h("h2", null, title), controls), body);
  const start = () => run(body, load, start);
  start();
  return Object.assign(element, { reload: start });
}

/** Runs what fills `body`, and shows there that it waits, or why it failed. */
async function run(body, load, again) {
  body.setAttribute("aria-busy", "true");
  fill(body, h("p", { className: "loading" }, "Loading …"));
  try {
    await load(body);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return signOut(error.message);
    fill(body, failure(error, again));
  } finally {
    body.removeAttribute("aria-busy");
  }
}

/**
 * Runs what a control starts, unless it is still running. The control keeps the focus, which a disabled one would lose.
 * `refuse(sentence)` shows why it failed.
 */
async function runFrom(control, refuse, work) {
  if (control.hasAttribute("aria-busy")) return;
  control.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return signOut(error.message);
    refuse(error);
  } finally {
    control.removeAttribute("aria-busy");
  }
}

/** Why something is not shown, and a button that tries again, if there is one. */
function failure(error, again) {
  const isOurs = !(error instanceof ApiError);
  if (isOurs) console.error(error);
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const sentence = isOurs ? "The page can't show this: it has a fault. The browser's console describes it." : error.message;
  return note(error.status === 403 || error.status === 404 ? "info" : "error", h("p", null, sentence + wait), again && button("Try again", again));
}

/** A list in pages: rows are added below those that are there. `read(continuation)` returns [rows, continuation]. */
async function pages(body, list, read, { add, added, empty, more }) {
  let continuation;
  const status = h("p", { className: "quiet" });
  const next = h("div", { className: "more" });
  const readNext = async () => {
    const [rows, following] = await read(continuation);
    continuation = following;
    rows.forEach((row) => add(list, row));
    added?.(list);
    const isEmpty = list.isEmpty();
    fill(status, isEmpty && (continuation ? "None on the pages read so far." : empty));
    list.element.hidden = isEmpty;
    fill(next, continuation && button(more, (event) => showNext(event.target)));
  };
  const showNext = (control) => {
    const first = list.size();
    const refuse = (error) => fill(next, failure(error, (event) => showNext(event.target)));
    return runFrom(control, refuse, async () => {
      await readNext();
      list.focusRow(first);
    });
  };
  await readNext();
  fill(body, list.element, status, next);
}

/** A table that grows by pages. */
function growingTable(caption, columns) {
  const element = h("div", { className: "scroll" }, table(caption, columns, []));
  const rows = element.querySelector("tbody");
  return {
    element,
    add: (cells) => rows.append(tableRow(columns, cells)),
    size: () => rows.children.length,
    isEmpty: () => rows.children.length === 0,
    focusRow: (index) => {
      const row = rows.children[index];
      if (row) Object.assign(row, { tabIndex: -1 }).focus();
    },
  };
}
