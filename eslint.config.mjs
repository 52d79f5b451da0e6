import eslint from "@eslint/js";
import jsdoc from "eslint-plugin-jsdoc";
import tseslint from "typescript-eslint";

const SHELL_TEXT = ":matches(TemplateLiteral[expressions.length>0], BinaryExpression[operator='+'])";

/** A command is an array of arguments; text that is put together is how somebody else's text becomes a command. */
const noCommandText = [
  {
    selector: "CallExpression[callee.property.name=/^(exec|run)$/] > :matches(TemplateLiteral, BinaryExpression[operator='+']).arguments",
    message: "Give the command as an array of arguments.",
  },
  {
    selector: `ArrayExpression:has(> Literal[value=/^(\\/bin\\/)?(ba|da)?sh$/]) > ${SHELL_TEXT}`,
    message: "Put no values into a script: give them as arguments after it, on stdin, or in a file.",
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
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: "error",
    },
  },
  {
    files: ["**/*.js"],
    languageOptions: { sourceType: "commonjs", globals: nodeGlobals() },
  },
  {
    files: ["provider/**/*.ts", "components/**/*.ts"],
    rules: {
      "no-console": "error",
      "no-restricted-syntax": ["error", ...noCommandText],
      "no-restricted-imports": ["error", { name: "node:timers/promises", message: "Wait for a condition with a deadline, never for a time." }],
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
      "jsdoc/check-param-names": "error",
      "jsdoc/no-types": "error",
      "jsdoc/empty-tags": "error",
    },
  },
  {
    files: ["test/**/*.ts"],
    rules: {
      // describe and it of node's own runner answer promises; mocha's do not, but helpers of the tests may.
      "@typescript-eslint/no-floating-promises": "error",
    },
  },
);

/** The names that a CommonJS module finds without importing them. */
function nodeGlobals() {
  const names = ["require", "module", "exports", "__dirname", "__filename", "process", "Buffer", "console", "fetch", "AbortSignal"];
  return Object.fromEntries([...names, "setTimeout", "clearTimeout", "setInterval", "clearInterval", "URL"].map((name) => [name, "readonly"]));
}
