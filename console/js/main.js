// Signing in, and which page is shown. The address has a customer and a month after its #, and nothing secret.

const KINDS = {
  key: {
    header: "x-functions-key",
    title: "Function key",
    hint: "It gives access to every customer. In the local stack any text is a key.",
  },
  token: {
    header: "Authorization",
    title: "Access token",
    hint: "An Entra token that was issued for this app, as `az account get-access-token` prints it.",
  },
};
const MONTHS = 24;
let isSignedIn = false;
let kind = KINDS.key;
const customers = h("datalist", { id: "customers" });

/** The page's part of the address for a customer, or all of them, and a month. */
function addressOf(customer, month) {
  return `#/${customer ? encodeURIComponent(customer) : ""}?month=${month}`;
}

/** The customer and month that the address names. */
function readAddress() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const month = new URLSearchParams(query).get("month") ?? "";
  let customer = "";
  try {
    customer = decodeURIComponent(path);
  } catch {
    // Not an address of ours: all customers.
  }
  if (/^\.+$/.test(customer)) customer = ""; // in a path, dots would lead elsewhere in the API
  return { customer, month: /^[1-9]\d{3}-(0[1-9]|1[0-2])$/.test(month) ? month : currentMonth() };
}

/** Offers names where a customer is typed. */
function rememberCustomers(names) {
  const present = new Set([...customers.options].map((option) => option.value));
  customers.append(...names.filter((name) => !present.has(name)).map((name) => h("option", { value: name })));
}

/** Shows the form that takes a key or a token, and why, if there is a reason. */
function signOut(reason) {
  forgetCredential();
  isSignedIn = false;
  customers.replaceChildren();
  fill(document.getElementById("bar"), h("h1", null, "Customer AI Jobs"));
  closeDocuments();
  document.title = "Console";
  const input = h("input", {
    type: "password",
    id: "credential",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
    required: true,
    "aria-describedby": "hint",
  });
  const hint = h("p", { className: "quiet", id: "hint" }, kind.hint);
  const label = h("label", { htmlFor: "credential" }, kind.title);
  const message = h("div", { role: "alert" }, reason && note("error", reason));
  const submit = h("button", { type: "submit", className: "primary" }, "Open the console");
  const choose = (chosen) => {
    kind = chosen;
    fill(label, kind.title);
    fill(hint, kind.hint);
  };
  const choices = Object.values(KINDS).map((each) =>
    h(
      "label",
      null,
      h("input", { type: "radio", name: "kind", checked: each === kind, onchange: () => choose(each) }),
      each.title,
    ),
  );
  const refuse = (error) => {
    forgetCredential();
    fill(message, failure(error));
  };
  const onsubmit = (event) => {
    event.preventDefault();
    fill(message);
    const text = input.value.trim().replace(/^Bearer\s+/i, "");
    runFrom(submit, () => signIn(text), refuse);
  };
  fill(
    document.getElementById("content"),
    h(
      "form",
      { className: "card", onsubmit },
      h("h2", null, "Console"),
      h("p", null, "Spend, budgets, jobs and statements of your customers. Nothing can be changed here."),
      h("fieldset", { className: "choice" }, h("legend", { className: "sr" }, "Sign in with"), choices),
      label,
      input,
      hint,
      message,
      submit,
      h(
        "p",
        { className: "quiet" },
        "It stays in this page's memory until you sign out or leave the page, and is sent to this app alone, as a header.",
      ),
    ),
  );
  input.focus();
}

/** Tries a key or a token with the list of customers, and shows the page if the app accepts it. Throws ApiError. */
async function signIn(text) {
  if (!/^[\x21-\x7e]+$/.test(text)) {
    throw new ApiError(0, `This is not a valid ${kind.title.toLowerCase()}: it has a space, or a letter that is not ASCII.`);
  }
  if (kind === KINDS.key && /^ey[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) {
    throw new ApiError(0, "This is an access token and no function key: choose “Access token”.");
  }
  useCredential(kind.header, text);
  try {
    const { customers: page, continuation } = await get("customers", { limit: 100 });
    rememberCustomers(page.map(({ customer }) => customer));
    const { customer, month } = readAddress();
    if (page.length === 1 && !continuation && !customer) {
      history.replaceState(null, "", addressOf(page[0].customer, month));
    }
  } catch (error) {
    if (error.status !== 403) throw error;
    // Accepted, but without the role that lists customers: one can be typed.
  }
  isSignedIn = true;
  show();
}

/** Shows what the address names. */
function show() {
  if (!isSignedIn) return;
  closeDocuments();
  const { customer, month } = readAddress();
  document.title = `${customer || "All customers"}, ${month} – Console`;
  const bar = document.getElementById("bar");
  const used = bar.contains(document.activeElement) ? labelOf(document.activeElement) : null;
  fill(bar, navigation(customer, month));
  const again = [...bar.querySelectorAll("button, select, input")].find(
    (each) => !each.disabled && labelOf(each) === used,
  );
  const sections = customer
    ? [
        usageSection(customer, month),
        budgetsSection(customer),
        batchesSection(customer),
        jobsSection(customer),
        statementsSection(customer),
      ]
    : overview(month);
  const content = document.getElementById("content");
  const party = h("p", { hidden: true });
  fill(
    content,
    h("h1", { className: "name" }, customer || "All customers"),
    party,
    h("p", { className: "quiet" }, `${monthName(month)}. Days and times are UTC.`),
    sections,
  );
  if (customer) showParty(party, customer);
  (again ?? content).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** What distinguishes a control of the bar from the others. */
function labelOf(control) {
  return control.id || control.getAttribute("aria-label") || control.innerText;
}

/** Who the customer is, and whether it is suspended; nothing if the caller may not know. */
async function showParty(place, customer) {
  const paths = ["profile", "state"].map((name) => `${pathOf("customers", customer)}/${name}`);
  const [profile, state] = (await Promise.allSettled(paths.map((path) => get(path)))).map(({ value }) => value);
  const name = profile?.legal_name;
  const isSuspended = state?.state === "suspended";
  fill(place, name, isSuspended && [" ", h("span", { className: "badge failed" }, "suspended")]);
  place.hidden = !name && !isSuspended;
}

function navigation(customer, month) {
  const go = (name, at) => {
    location.hash = addressOf(name, at);
  };
  const months = Array.from({ length: MONTHS }, (_, index) => laterMonth(currentMonth(), -index));
  if (!months.includes(month)) months.push(month);
  const input = h("input", {
    id: "customer",
    value: customer,
    placeholder: "all customers",
    autocomplete: "off",
    spellcheck: "false",
    autocapitalize: "off",
  });
  input.setAttribute("list", "customers");
  return [
    h("a", { href: addressOf("", month), className: "brand" }, "Console"),
    h(
      "form",
      {
        role: "search",
        onsubmit: (event) => {
          event.preventDefault();
          go(input.value.trim(), month);
        },
      },
      h("label", { htmlFor: "customer", className: "sr" }, "Customer"),
      input,
      customers,
      h("button", { type: "submit" }, "Show"),
    ),
    h(
      "div",
      { className: "months" },
      button("‹", () => go(customer, laterMonth(month, -1)), { "aria-label": "Previous month" }),
      h("label", { htmlFor: "month", className: "sr" }, "Month"),
      h(
        "select",
        { id: "month", onchange: (event) => go(customer, event.target.value) },
        months.map((each) => h("option", { value: each, selected: each === month }, monthName(each))),
      ),
      button("›", () => go(customer, laterMonth(month, 1)), {
        "aria-label": "Next month",
        disabled: month >= currentMonth(),
      }),
    ),
    button("↻", show, { "aria-label": "Refresh", title: "Refresh" }),
    button("Sign out", () => signOut()),
  ];
}

addEventListener("hashchange", show);
addEventListener("pagehide", () => signOut()); // a page that the browser keeps for "back" keeps no key
signOut();
