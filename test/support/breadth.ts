/** Whether to try everything, as `npm test -- --thorough` does, and not only a quick part. */
export const isThorough = process.env["THOROUGH"] !== undefined;
