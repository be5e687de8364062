// Numbers, amounts and times as the page shows them. Times are UTC, as days and months of a statement are.

/** A count, or a dash if nobody reported one. */
function count(value) {
  return value === undefined || value === null ? "–" : grouped(value);
}

/** An amount with its currency. */
function money(amount, currency) {
  return amount === undefined || amount === null ? "–" : `${grouped(amount)} ${currency ?? ""}`.trim();
}

/** A short number for an axis. */
function short(value) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}

/** A time to the second. */
function time(text) {
  const moment = text ? new Date(text) : null;
  if (!moment || Number.isNaN(moment.getTime())) return text ?? "–";
  return h("time", { datetime: text }, moment.toISOString().slice(0, 19).replace("T", " "));
}

/** How long something took. */
function duration(from, to) {
  const seconds = (new Date(to) - new Date(from)) / 1000;
  if (!from || !to || Number.isNaN(seconds)) return null;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** The current month. */
function currentMonth() {
  return new Date().toISOString().slice(0, 7);
}

/** The month so many months later. */
function laterMonth(month, months) {
  const [year, number] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number - 1 + months, 1)).toISOString().slice(0, 7);
}

/** A month in words. */
function monthName(month) {
  const [year, number] = month.split("-").map(Number);
  const options = { month: "long", year: "numeric", timeZone: "UTC" };
  return new Intl.DateTimeFormat("en", options).format(new Date(Date.UTC(year, number - 1, 1)));
}

/** The number of days in a month. */
function daysIn(month) {
  const [year, number] = month.split("-").map(Number);
  return new Date(Date.UTC(year, number, 0)).getUTCDate();
}
