import tseslint from 'typescript-eslint';

const SYNTAX = [
  { selector: 'ExportDefaultDeclaration', message: 'Export by name: a name stays the same wherever it is imported.' },
  { selector: 'TSEnumDeclaration', message: 'Use a union of strings, or a constant object.' },
];
/** The driver's own transaction ends the process when the server ends the session within it. */
const ONE_DOOR = {
  selector: 'CallExpression > MemberExpression.callee[property.name=/^(begin|reserve)$/]',
  message: 'Open a transaction with inTransaction or rolledBack of runner/base/transaction.ts.',
};
const DRIVERS = ['postgres', 'pg'].map((name) => ({
  name,
  allowTypeImports: true,
  message: 'Connect with withDatabase or connect of runner/base/database.ts.',
}));

/** The house style that a machine can keep; CONTRIBUTING.md has the rest, test/style.test.ts the folders and imports. */
const HOUSE = {
  '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
  '@typescript-eslint/explicit-module-boundary-types': 'error',
  '@typescript-eslint/switch-exhaustiveness-check': 'error',
  '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
  // A number stands in a text as it is; what may be null, or no text at all, does not.
  '@typescript-eslint/restrict-template-expressions': [
    'error',
    {
      allowAny: false,
      allowBoolean: false,
      allowNever: false,
      allowNullish: false,
      allowNumber: true,
      allowRegExp: false,
    },
  ],
  // "await sleep(50)" as the last part of a for loop is as plain as it gets.
  '@typescript-eslint/no-confusing-void-expression': 'off',
  eqeqeq: ['error', 'always', { null: 'ignore' }],
  'no-console': 'error',
  'no-restricted-syntax': ['error', ...SYNTAX],
};

export default tseslint.config(
  { ignores: ['dist/', 'data/', 'coverage/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: HOUSE,
  },
  {
    files: ['runner/**/*.ts'],
    rules: {
      'max-lines': ['error', 400],
      'max-lines-per-function': ['error', { max: 60, skipComments: true, skipBlankLines: true }],
    },
  },
  {
    files: ['runner/**/*.ts', 'bench/**/*.ts'],
    ignores: ['runner/base/transaction.ts'],
    rules: { 'no-restricted-syntax': ['error', ...SYNTAX, ONE_DOOR] },
  },
  {
    files: ['runner/**/*.ts', 'bench/**/*.ts'],
    ignores: ['runner/base/database.ts'],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', { paths: DRIVERS }] },
  },
  {
    // The tools that read these want a default export.
    files: ['**/*.config.{js,ts}', 'test/support/global-setup.ts', 'test/support/progress.ts'],
    rules: { 'no-restricted-syntax': 'off' },
  },
);
