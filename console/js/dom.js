// Elements. Text reaches the page through text nodes alone: whatever a model, an endpoint or a caller wrote stays text.

const PROPERTIES = new Set(["className", "disabled", "value", "checked", "htmlFor", "tabIndex", "hidden", "open"]);

/** An element. `on…` members of `options` are listeners, PROPERTIES are set as such, all others are attributes. */
function h(name, options, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (PROPERTIES.has(key)) element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  return fill(element, ...children);
}

/** Puts children in place of those that the element has. Strings and numbers become text. */
function fill(element, ...children) {
  element.replaceChildren(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map((child) => (child instanceof Node ? child : String(child))),
  );
  return element;
}

/** Has a screen reader say a sentence. */
function announce(sentence) {
  document.getElementById("announcer").textContent = sentence;
}

/** A table. Columns are `[heading, class]`; at a narrow width each cell repeats its heading. */
function table(caption, columns, rows) {
  const head = columns.map(([heading, kind]) => h("th", { scope: "col", className: kind ?? "" }, heading));
  return h(
    "table",
    null,
    h("caption", { className: "sr" }, caption),
    h("thead", null, h("tr", null, head)),
    h(
      "tbody",
      null,
      rows.map((cells) => tableRow(columns, cells)),
    ),
  );
}

/** A row of such a table. Its first cell is its heading. */
function tableRow(columns, cells) {
  return h(
    "tr",
    null,
    cells.map((cell, index) => {
      const [heading, kind] = columns[index];
      const options = { className: kind ?? "", "data-label": heading };
      return index === 0 ? h("th", { ...options, scope: "row" }, cell) : h("td", options, cell);
    }),
  );
}

/** A list of names with their values. Entries are `[name, value]`. */
function facts(className, entries) {
  return h(
    "dl",
    { className },
    entries.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

/** A button. */
function button(text, onclick, options) {
  return h("button", { type: "button", onclick, ...options }, text);
}

/** A paragraph that stands out: `kind` is `info`, `warning` or `error`. */
function note(kind, ...children) {
  return h("div", { className: `note ${kind}`, role: kind === "error" ? "alert" : null }, children);
}
