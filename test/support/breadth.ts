/** Whether all is tried that can be, as `npm test -- --thorough` does, and not a part of it that is soon over. */
export const isThorough = process.env["THOROUGH"] !== undefined;
