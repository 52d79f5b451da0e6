// @ts-check
"use strict";

/** A failed step of the set-up. The user sees the message without a stack trace. */
class SetupError extends Error {}

/**
 * Runs one step of the set-up and prints a line: `[setup] <title> ... 12.3 s`.
 * @template T
 * @param {string} title
 * @param {() => Promise<{ note?: string, value: T }>} work - `note` replaces the time, e.g. "already there".
 * @returns {Promise<T>}
 */
async function step(title, work) {
  const started = process.hrtime.bigint();
  process.stdout.write(`[setup] ${title} ... `);
  try {
    const { note, value } = await work();
    process.stdout.write(`${note ?? secondsSince(started)}\n`);
    return value;
  } catch (error) {
    process.stdout.write(`failed after ${secondsSince(started)}\n`);
    throw error;
  }
}

/** @param {bigint} started - From `process.hrtime.bigint()`. */
function secondsSince(started) {
  return `${(Number(process.hrtime.bigint() - started) / 1e9).toFixed(1)} s`;
}

module.exports = { SetupError, secondsSince, step };
