// Amounts are decimal strings. They are added exactly, and become binary fractions only as heights of a chart.

/** The sum of decimal strings, with as many places as the longest has. */
function addDecimals(texts) {
  const places = texts.reduce((most, text) => Math.max(most, (text.split(".")[1] ?? "").length), 0);
  const sum = texts.reduce((total, text) => total + toUnits(text, places), 0n);
  const digits = String(sum < 0n ? -sum : sum).padStart(places + 1, "0");
  const whole = digits.slice(0, digits.length - places);
  return `${sum < 0n ? "-" : ""}${whole}${places ? `.${digits.slice(-places)}` : ""}`;
}

/** The number of units in the last of `places`. */
function toUnits(text, places) {
  const [whole, fraction = ""] = text.replace("-", "").split(".");
  const units = BigInt(whole + fraction.padEnd(places, "0"));
  return text.startsWith("-") ? -units : units;
}

/** The text with commas between thousands, and all of its places. */
function grouped(text) {
  const [whole, fraction] = String(text).split(".");
  const commas = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? commas : `${commas}.${fraction}`;
}
