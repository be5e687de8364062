// The chart of a month: a column for each day, a part of it for each model. Drawn by uPlot, read by keyboard too.

/** The chart with the choice of what it shows, a line that reads out a day, and the same as a table. */
function chartWithControls(models, currency, month) {
  const names = Object.keys(METRICS).filter((name) => currency || name !== "amount");
  const place = h("div");
  const show = (name) => fill(place, chart(merged(models), METRICS[name], currency, month));
  const choices = names.map((name, index) =>
    h(
      "label",
      null,
      h("input", { type: "radio", name: "metric", checked: index === 0, onchange: () => show(name) }),
      name === "amount" ? `Amount (${currency})` : METRICS[name].title,
    ),
  );
  show(names[0]);
  return h(
    "div",
    null,
    h("fieldset", { className: "choice" }, h("legend", { className: "sr" }, "The chart shows"), choices),
    place,
  );
}

/** The models, those beyond the number of colours as one. */
function merged(models) {
  if (models.length <= COLOURS + 1) return models;
  return [...models.slice(0, COLOURS), { model: OTHER, lines: models.slice(COLOURS).flatMap(({ lines }) => lines) }];
}

function chart(models, metric, currency, month) {
  const days = Array.from({ length: daysIn(month) }, (_, index) => index + 1);
  const dayOf = (line) => Number(line.day.slice(8));
  const cells = models.map(({ lines }) =>
    days.map((day) =>
      sum(
        lines.filter((line) => dayOf(line) === day),
        metric,
      ),
    ),
  );
  const text = (value) => metric.text(value, currency);
  const readout = h("p", { className: "readout", role: "status" });
  const read = (index) =>
    fill(readout, index === null ? "Move over the chart, or use the arrow keys, to read a day." : dayReadout(index));
  const dayReadout = (index) => {
    const present = models
      .map(({ model }, row) => [model, cells[row][index], row])
      .filter(([, value]) => value !== undefined);
    const total = present.length ? text(addDecimals(present.map(([, value]) => value))) : "nothing";
    const parts = present.map(([model, value, row]) =>
      h("span", { className: "part" }, swatch(row), `${model} `, h("b", null, text(value))),
    );
    return [h("b", null, `${month}-${String(days[index]).padStart(2, "0")}: ${total}`), parts];
  };
  const frame = h("div", {
    className: "chart",
    tabIndex: 0,
    role: "group",
    "aria-label": `${metric.title} by day and model in ${monthName(month)}. The arrow keys read a day.`,
  });
  drawInto(frame, days, cells, read);
  read(null);
  const rows = days
    .map((day, index) => [String(day), ...cells.map((row) => text(row[index]))])
    .filter((_, index) => cells.some((row) => row[index] !== undefined));
  const columns = [["Day"], ...models.map(({ model }) => [model, "number"])];
  const asTable = h(
    "details",
    null,
    h("summary", null, "By day, as a table"),
    h("div", { className: "scroll" }, table(`${metric.title} by day and model`, columns, rows)),
  );
  return [frame, readout, asTable];
}

/** Draws when the frame is on the page, and again whenever its width or the colours change. */
function drawInto(frame, days, cells, read) {
  let plot = null;
  let at = null;
  const select = (index) => {
    at = Math.max(0, Math.min(days.length - 1, index));
    plot.setCursor({ left: plot.valToPos(days[at], "x"), top: 0 });
    read(at);
  };
  const draw = () => {
    plot?.destroy();
    plot = frame.isConnected && frame.clientWidth ? stacked(frame, days, cells, (index) => read(index)) : null;
  };
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!plot || step === undefined) return;
    event.preventDefault();
    select((at ?? (step < 0 ? days.length : -1)) + step);
  });
  const observer = new ResizeObserver(draw);
  observer.observe(frame);
  const themes = [matchMedia("(prefers-color-scheme: dark)"), matchMedia("print")];
  const redraw = () =>
    frame.isConnected ? draw() : themes.forEach((theme) => theme.removeEventListener("change", redraw));
  themes.forEach((theme) => theme.addEventListener("change", redraw));
}

/** Columns on top of each other: each series is drawn with all below it, the highest first. */
function stacked(frame, days, cells, onDay) {
  const probe = frame.appendChild(h("i", { hidden: true }));
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const heights = cells.map((row) => row.map((value) => Number(value ?? 0)));
  const sums = heights.map((_, index) =>
    days.map((_, day) =>
      heights[index][day] ? heights.slice(0, index + 1).reduce((total, row) => total + row[day], 0) : null,
    ),
  );
  const bars = uPlot.paths.bars({ size: [0.72, 40], radius: 0 });
  const series = sums.map((_, index) => ({
    fill: colour(`--colour${Math.min(index, COLOURS)}`),
    stroke: colour("--surface"),
    width: 1,
    paths: bars,
    points: { show: false },
  }));
  const axis = { stroke: colour("--quiet"), font: "12px system-ui, sans-serif", ticks: { show: false } };
  const options = {
    width: frame.clientWidth,
    height: 240,
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: {
      x: { time: false, range: [0.4, days.length + 0.6] },
      y: { range: (_, __, highest) => [0, highest > 0 ? highest * 1.08 : 1] },
    },
    series: [{}, ...series.reverse()],
    axes: [
      {
        ...axis,
        grid: { show: false },
        incrs: [1, 2, 5, 7],
        space: 28,
        size: 28,
        values: (_, values) => values.map((value) => (Number.isInteger(value) ? value : "")),
      },
      {
        ...axis,
        grid: { stroke: colour("--line"), width: 1 },
        space: 44,
        size: 56,
        values: (_, values) => values.map(short),
      },
    ],
    hooks: { setCursor: [(plot) => plot.cursor.idx !== null && plot.cursor.left >= 0 && onDay(plot.cursor.idx)] },
  };
  probe.remove();
  return new uPlot(options, [days, ...sums.reverse()], frame);
}
