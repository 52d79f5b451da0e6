/**
 * Skips the running test, or with it all tests of a suite when called in its `before`, and says why in the summary of the run.
 * @param context - `this` of the test or hook.
 */
export declare function skip(context: Mocha.Context, reason: string): never;
