// The app's API. The key or token is in this file's variable and nowhere else: it goes out as a header, to this origin.

let credential = null;
let requests = new AbortController();

class ApiError extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Uses a key (`x-functions-key`) or a token (`Authorization`) from now on. */
function useCredential(name, text) {
  credential = { name, value: name === "Authorization" ? `Bearer ${text}` : text };
}

/** Forgets the key or token, and ends all requests. */
function forgetCredential() {
  credential = null;
  requests.abort();
  requests = new AbortController();
}

/** The response to GET of a path below `/api`. Throws ApiError. */
async function send(path, query, accept) {
  const parameters = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value));
  const url = parameters.size ? `${path}?${parameters}` : path;
  const { signal } = requests;
  let response;
  try {
    response = await fetch(url, {
      headers: { Accept: accept, ...(credential && { [credential.name]: credential.value }) },
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      referrerPolicy: "no-referrer",
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "The app can't be reached. Check the network, then try again.");
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await explanation(response), response.headers.get("Retry-After"));
}

/** The JSON document at a path. Throws ApiError. */
async function get(path, query) {
  const response = await send(path, query, "application/json");
  try {
    return await response.json();
  } catch {
    throw new ApiError(
      response.status,
      "The app's response is not JSON. Something between it and this page changed it.",
    );
  }
}

/** Why a request was refused: the app's own sentence, or ours if the host responded by itself. */
async function explanation(response) {
  const problem = await response.json().catch(() => null);
  if (typeof problem?.detail === "string") return problem.detail;
  if (response.status === 401) {
    return `The app doesn't accept this ${credential?.name === "Authorization" ? "token" : "key"}.`;
  }
  if (response.status === 404) return "The app has no such route, or nothing there.";
  return `The app responded with HTTP ${response.status}.`;
}

/** The query of the page that the header `Link` names; nothing on the last page. */
function nextPage(response) {
  const [, query] = /^<\?([^>]*)>; rel="next"$/.exec(response.headers.get("Link") ?? "") ?? [];
  return query && Object.fromEntries(new URLSearchParams(query));
}

/** A path below `/api`, with each of its parts encoded. */
function pathOf(...parts) {
  return parts.map(encodeURIComponent).join("/");
}

/** Saves a document as a file: all of its pages, if it is CSV in pages. Throws ApiError. */
async function download(path, query, accept, name) {
  let response = await send(path, query, accept);
  const parts = [await response.blob()];
  for (let next = nextPage(response); next; next = nextPage(response)) {
    response = await send(path, next, accept);
    const page = await response.text();
    parts.push(page.slice(page.indexOf("\n") + 1)); // each page has the headings
  }
  const url = URL.createObjectURL(new Blob(parts, { type: parts[0].type }));
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
