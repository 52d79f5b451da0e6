import eslint from "@eslint/js";
import jsdoc from "eslint-plugin-jsdoc";
import tseslint from "typescript-eslint";

const SHELL_TEXT = ":matches(TemplateLiteral[expressions.length>0], BinaryExpression[operator='+'])";

/** A command is an array of arguments; text that is put together is how somebody else's text becomes a command. */
const noCommandText = [
  {
    selector:
      "CallExpression[callee.property.name=/^(exec|run)$/] > :matches(TemplateLiteral, BinaryExpression[operator='+']).arguments",
    message: "Give the command as an array of arguments.",
  },
  {
    selector: `ArrayExpression:has(> Literal[value=/^(\\/bin\\/)?(ba|da)?sh$/]) > ${SHELL_TEXT}`,
    message: "Put no values into a script: give them as arguments after it, on stdin, or in a file.",
  },
];

/** Promises that wait in a variable are not heard yet: one that fails during another `await` ends the process of the provider. */
const noUnheardPromises = [
  {
    selector: "VariableDeclarator > CallExpression[callee.property.name='map'].init > [async=true].arguments",
    message: "Hand the promises to Promise.all where they are made: nobody hears one that fails before it is awaited.",
  },
];

export default tseslint.config(
  { ignores: ["dist/", "docs/", "**/node_modules/", "coverage/"] },
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  eslint.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Numbers and booleans read well in messages, and cannot be anything else than what they are.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      // `() => callback()` in place of a block is shorter and as clear.
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true },
      ],
      "@typescript-eslint/consistent-type-imports": ["error", { disallowTypeAnnotations: false }],
      // An async function without await still turns what it throws into a rejection, as its callers expect.
      "@typescript-eslint/require-await": "off",
      // LXD's maps of config and devices are plain objects.
      "@typescript-eslint/no-dynamic-delete": "off",
      eqeqeq: "error",
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: { sourceType: "commonjs", globals: globals() },
  },
  {
    files: ["provider/**/*.ts", "components/**/*.ts"],
    rules: {
      "no-console": "error",
      "no-restricted-syntax": ["error", ...noCommandText, ...noUnheardPromises],
      "no-restricted-imports": [
        "error",
        { name: "node:timers/promises", message: "Wait for a condition with a deadline, never for a time." },
      ],
    },
  },
  {
    // What a user of the package sees is documented.
    files: ["provider/index.ts", "provider/resources/**/*.ts", "components/**/*.ts"],
    plugins: { jsdoc },
    settings: { jsdoc: { mode: "typescript" } },
    rules: {
      "jsdoc/require-jsdoc": [
        "error",
        {
          publicOnly: true,
          require: { ClassDeclaration: true, FunctionDeclaration: true, MethodDefinition: true },
          contexts: [
            "TSInterfaceDeclaration",
            "TSTypeAliasDeclaration",
            "TSInterfaceDeclaration TSPropertySignature",
            "ExportNamedDeclaration > VariableDeclaration",
            "ExportNamedDeclaration > ClassDeclaration > ClassBody > PropertyDefinition:not([accessibility='private'])",
          ],
          checkConstructors: false,
        },
      ],
      "jsdoc/require-description": ["error", { contexts: ["any"], checkConstructors: false }],
      "jsdoc/check-tag-names": ["error", { typed: true, definedTags: ["remarks", "typeParam"] }],
      "jsdoc/check-param-names": ["error", { disableMissingParamChecks: true }],
      "jsdoc/no-types": "error",
      "jsdoc/empty-tags": "error",
    },
  },
  {
    files: ["test/**/*.{ts,js}", "lab/**/*.ts"],
    rules: {
      // What stands in for something real is an object of functions that are passed on; none of them uses `this`.
      "@typescript-eslint/unbound-method": "off",
      "no-restricted-properties": [
        "error",
        ...["describe", "it"].map((object) => ({ object, property: "only", message: "It would hide all other tests." })),
        { object: "it", property: "skip", message: "Say why: skip(this, reason) of tools/test/skip." },
      ],
    },
  },
);

/** The names that a CommonJS module or a mocha test finds without importing them. */
function globals() {
  const node = [
    "require",
    "module",
    "__dirname",
    "process",
    "Buffer",
    "console",
    "fetch",
    "AbortSignal",
    "setTimeout",
    "clearTimeout",
  ];
  const mocha = ["describe", "it", "before", "after", "beforeEach", "afterEach"];
  return Object.fromEntries([...node, ...mocha].map((name) => [name, "readonly"]));
}
