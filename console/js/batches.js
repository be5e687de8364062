// Batches: what jobs at patient prices wait for, newest first. A customer without any has no such section.

const BATCH_COLUMNS = [
  ["Batch"],
  ["State"],
  ["Model", "medium"],
  ["Lines", "number"],
  ["Opened"],
  ["Provider", "wide"],
];
const BATCHES_ON_A_PAGE = 10;

/** The section with a customer's batches; hidden until there is one, or they can't be read. */
function batchesSection(customer) {
  const path = `${pathOf("customers", customer)}/batches`;
  const read = async (continuation) => {
    const page = await get(path, { limit: BATCHES_ON_A_PAGE, continuation });
    return [page.batches, page.continuation];
  };
  const load = async (body) => {
    const list = growingTable("Batches, newest first", BATCH_COLUMNS);
    try {
      await pages(body, list, read, {
        add: (each, batch) => each.add(batchCells(batch)),
        empty: "This customer has no batches.",
        more: "Older batches",
      });
    } catch (error) {
      element.hidden = false;
      throw error;
    }
    element.hidden = list.isEmpty();
  };
  const element = section("Batches", load);
  element.hidden = true;
  return element;
}

function batchCells(batch) {
  const quiet = (...content) => h("span", { className: "quiet block" }, ...content);
  const { lines, answered, failed } = batch;
  const isOver = batch.state === "done" || batch.state === "waking";
  return [
    h("span", { className: "id" }, batch.batch),
    [
      h("span", { className: `badge ${isOver ? "succeeded" : "waiting"}` }, batch.state),
      batch.late && [" ", h("span", { className: "badge failed" }, "late")],
    ],
    [batch.model, quiet(batch.operation)],
    [
      count(lines),
      answered > 0 && quiet(`${grouped(answered)} answered`),
      failed > 0 && quiet(`${grouped(failed)} failed`),
    ],
    [time(batch.opened_at), !isOver && quiet("cancelled ", time(batch.cancel_at))],
    [
      batch.provider_status ?? "–",
      batch.provider_id && h("span", { className: "id quiet block" }, batch.provider_id),
      batch.error && h("span", { className: "block" }, batch.error),
    ],
  ];
}
