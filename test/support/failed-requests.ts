import type { FaultEffect } from "../../lab/simulated/faults";

/** Failures of a request to LXD, by name. */
export const FAILED_REQUESTS: Readonly<Record<string, { readonly effect: FaultEffect; readonly lasts: boolean }>> = {
  "fails once": { effect: { status: 500, error: "Failed to get dqlite client" }, lasts: false },
  "fails every time": { effect: { status: 500, error: "Failed to get dqlite client" }, lasts: true },
  "is refused": { effect: { status: 403, error: "not authorized" }, lasts: true },
  "answers not found": { effect: { status: 404, error: "not found" }, lasts: true },
  "hits a daemon restart": { effect: "daemon-restart", lasts: false },
  "drops every time": { effect: "daemon-restart", lasts: true },
  "is never answered": { effect: "hang", lasts: true },
  "has an answer of another form": { effect: { answer: (response) => void response.end("<html>") }, lasts: true },
};
