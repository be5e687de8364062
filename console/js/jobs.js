// Jobs, newest first, with why they failed or wait.

const STATES = ["queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled"];
const JOB_COLUMNS = [["Job"], ["Status"], ["Action", "medium"], ["Submitted"], ["Took", "number"], ["Error", "wide"]];
const JOBS_ON_A_PAGE = 20;

/** The section with a customer's jobs. */
function jobsSection(customer) {
  const filter = h(
    "select",
    { onchange: () => element.reload() },
    h("option", { value: "" }, "all"),
    STATES.map((state) => h("option", null, state)),
  );
  const path = `${pathOf("customers", customer)}/jobs`;
  const load = (body) => {
    const status = filter.value;
    const read = async (continuation) => {
      const page = await get(path, { status, limit: JOBS_ON_A_PAGE, continuation });
      return [page.jobs, page.continuation];
    };
    const empty = status ? `No job is ${status}.` : "This customer has no jobs on record.";
    return pages(body, growingTable("Jobs, newest first", JOB_COLUMNS), read, {
      add: (list, job) => list.add(jobCells(job)),
      empty,
      more: "Older jobs",
    });
  };
  const element = section("Jobs", load, h("label", null, "Status ", filter));
  return element;
}

function jobCells(job) {
  const { error, callback } = job;
  return [
    h("span", { className: "id" }, job.job_id),
    h("span", { className: `badge ${job.status}` }, job.status),
    [job.action ?? "–", job.model && h("span", { className: "quiet block" }, job.model)],
    [time(job.submitted_at), job.due_at && h("span", { className: "quiet block" }, "due ", time(job.due_at))],
    [
      duration(job.started_at, job.finished_at) ?? "–",
      job.attempts > 1 && h("span", { className: "quiet block" }, `${job.attempts} attempts`),
    ],
    [
      error && [h("b", null, error.code), h("span", { className: "block" }, error.message)],
      callback?.status === "failed" &&
        h("span", { className: "block" }, h("b", null, "callback failed"), callback.error && `: ${callback.error}`),
      job.batch && ["in the batch ", h("span", { className: "id" }, job.batch)],
      !error && !job.batch && callback?.status !== "failed" && h("span", { className: "quiet" }, "–"),
    ],
  ];
}
