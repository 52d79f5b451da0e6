import type { FaultEffect } from "../../lab/simulated/faults";

/** What may become of a question to LXD besides its answer, by what is said of the question. */
export const FAILED_QUESTIONS: Readonly<Record<string, { readonly effect: FaultEffect; readonly lasts: boolean }>> = {
  "fails once": { effect: { status: 500, error: "Failed to get dqlite client" }, lasts: false },
  "fails for ever": { effect: { status: 500, error: "Failed to get dqlite client" }, lasts: true },
  "is refused": { effect: { status: 403, error: "not authorized" }, lasts: true },
  "says that there is nothing": { effect: { status: 404, error: "not found" }, lasts: true },
  "meets a restart": { effect: "daemon-restart", lasts: false },
  "breaks off for ever": { effect: "daemon-restart", lasts: true },
  "is never answered": { effect: "hang", lasts: true },
  "is answered with something else": { effect: { answer: (response) => void response.end("<html>") }, lasts: true },
};
