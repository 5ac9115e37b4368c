/* The type-checked rules that `nest new` writes, with its warnings as errors, for the applications of setups.ts. */
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(tseslint.configs.recommendedTypeChecked, {
  files: ['src/**/*.ts'],
  languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: process.cwd() } },
});
