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
    if (!(error instanceof ApiError)) console.error(error);
    if (error.status === 401) return signOut(error.message);
    fill(body, failure(error, again));
  } finally {
    body.removeAttribute("aria-busy");
  }
}

/** Why something is not shown, and a button that tries again. */
function failure(error, again) {
  const isOurs = !(error instanceof ApiError);
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const sentence = isOurs ? "The page can't show this: it has a fault. The browser's console describes it." : error.message;
  return note(error.status === 403 || error.status === 404 ? "info" : "error", h("p", null, sentence + wait), button("Try again", again));
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
  const showNext = async (control) => {
    control.disabled = true;
    try {
      const first = list.size();
      await readNext();
      list.focusRow(first);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.status === 401) return signOut(error.message);
      fill(next, failure(error, (event) => showNext(event.target)));
    }
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
