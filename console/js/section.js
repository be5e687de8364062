// A part of the page that loads by itself: while it waits, when it has something, when it has nothing, when it fails.

/** A section with a heading. `load(body)` fills the body, and may throw ApiError. */
function section(title, load, ...controls) {
  const heading = h("div", { className: "title" }, h("h2", null, title), controls);
  const element = h("section", { "aria-label": title }, heading, h("div"));
  const reload = () => {
    const body = h("div", null, h("p", { className: "loading" }, "Loading …"));
    element.lastElementChild.replaceWith(body); // what an earlier load still fills is shown no more
    return run(
      body,
      () => load(body),
      (error) => fill(body, failure(error, reload)),
    );
  };
  reload();
  return Object.assign(element, { reload });
}

/** Does what an element stands for, and marks it as busy meanwhile. `refuse(error)` shows why that failed. */
async function run(element, work, refuse) {
  element.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return signOut(error.message);
    refuse(error);
  } finally {
    element.removeAttribute("aria-busy");
  }
}

/** Does what a control starts, unless it does already. The control keeps the focus, which a disabled one would lose. */
async function runFrom(control, work, refuse) {
  if (!control.hasAttribute("aria-busy")) await run(control, work, refuse);
}

/** Why something is not shown, and a button that tries again, if there is one. */
function failure(error, again) {
  const isOurs = !(error instanceof ApiError);
  if (isOurs) console.error(error);
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const sentence = isOurs
    ? "The page can't show this: it has a fault. The browser's console describes it."
    : error.message;
  return note(
    error.status === 403 || error.status === 404 ? "info" : "error",
    h("p", null, sentence + wait),
    again && button("Try again", again),
  );
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
    const work = async () => {
      await readNext();
      list.focusRow(first);
    };
    const refuse = (error) =>
      fill(
        next,
        failure(error, (event) => showNext(event.target)),
      );
    return runFrom(control, work, refuse);
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
