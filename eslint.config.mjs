import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  globalIgnores([
    '**/dist/',
    'coverage/',
    'node_modules/',
    'bench/rivals/',
    'test/package/apps/', // they have rules of their own
    '.cache/',
    '**/*.js',
    '**/*.mjs',
  ]),
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: dirname(fileURLToPath(import.meta.url)) },
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/no-extraneous-class': [
        'error',
        { allowWithDecorator: true, allowStaticOnly: true },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      '@typescript-eslint/no-non-null-assertion': 'error',
      // What an application need not have is loaded when it is needed: see lib/core/optional-package.ts.
      '@typescript-eslint/no-require-imports': [
        'error',
        {
          allow: [
            '^@nestjs-modules/ioredis$',
            '^@nestjs/typeorm$',
            '^@opentelemetry/api$',
            '^@willsoto/nestjs-prometheus$',
            '^ioredis$',
            '^pg$',
            '^prom-client$',
            '^typeorm$',
          ],
        },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      // There is no enum, and looking for one takes a quarter of the time.
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      // Nest declares some of its option interfaces as classes.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
    },
  },
  {
    files: ['test/**', 'bench/**'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/require-await': 'off',
    },
  },
);
