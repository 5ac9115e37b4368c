import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError, run } from './command';
import { npmInstall } from './registry';
import type { Row } from './rows';
import type { Setup } from './setups';

const ROOT = join(__dirname, '../..');

interface Manifest {
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, unknown>>;
}

const OURS = manifest(ROOT);

/** The oldest Node that `engines` allows. */
export const OLDEST_NODE = oldest(OURS.engines.node);

/** npm's own reason why the versions of a row do not go together. */
export class RefusedError extends Error {}

/** What a project is made of. */
export interface Plan {
  readonly modules: 'cjs' | 'esm';
  readonly typescript: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly overrides?: object;
  /** Files and folders, and where each goes in the project. */
  readonly sources: readonly (readonly [from: string, to: string])[];
  /** Further files, by their place in the project. */
  readonly files?: Readonly<Record<string, string>>;
}

/** A fresh project with the packed package, and an application. */
export class Project {
  constructor(
    readonly folder: string,
    private readonly plan: Plan,
    private readonly node: string,
  ) {}

  /** @param tarball path of the packed package */
  write(tarball: string): void {
    const { folder, plan } = this;
    mkdirSync(folder);
    for (const [from, to] of plan.sources)
      cpSync(join(__dirname, from), join(folder, to), { recursive: true });
    for (const [path, text] of Object.entries(plan.files ?? {})) writeFileSync(join(folder, path), text);
    writeJson(join(folder, 'package.json'), {
      name: 'application',
      private: true,
      type: plan.modules === 'esm' ? 'module' : 'commonjs',
      dependencies: { ...plan.dependencies, 'nestjs-idempotency': `file:${tarball}` },
      devDependencies: { '@types/node': '^20', '@types/pg': '^8', typescript: plan.typescript },
      ...(plan.overrides ? { overrides: plan.overrides } : {}),
    });
    writeJson(join(folder, 'tsconfig.json'), { compilerOptions: COMPILER_OPTIONS, include: ['src'] });
  }

  /** @throws RefusedError; RegistryUnreachableError */
  async install(): Promise<void> {
    try {
      await npmInstall(this.folder);
    } catch (error) {
      if (!(error instanceof CommandError) || !error.output.includes('ERESOLVE')) throw error;
      const reason = /Could not resolve dependency:\s*npm error (.+)/.exec(error.output)?.[1];
      throw new RefusedError(`npm refuses: ${reason ?? 'ERESOLVE'}`);
    }
  }

  /** Compiles the application, which checks it against our types. */
  async compile(): Promise<void> {
    await this.tsc();
  }

  /** Our own declarations have to be sound where the application's compiler looks into them. */
  async checkDeclarations(): Promise<void> {
    const output = await this.tsc('--noEmit', '--skipLibCheck', 'false').catch((error: unknown) => {
      if (error instanceof CommandError) return error.output;
      throw error;
    });
    const faults = output.split('\n').filter((line) => line.startsWith('node_modules/nestjs-idempotency/'));
    if (faults.length > 0) throw new Error(faults.join('\n'));
  }

  /** Nothing that the application writes is refused by the rules of a new application. */
  async lint(): Promise<void> {
    const eslint = join(ROOT, 'node_modules/eslint/bin/eslint.js');
    const rules = join(__dirname, 'scaffold.eslint.config.mjs');
    await run(process.execPath, [eslint, '--config', rules, '--max-warnings', '0', 'src'], {
      cwd: this.folder,
    });
  }

  /** `require` and `import` give one copy of everything. */
  async checkCopies(): Promise<void> {
    await run(this.node, ['copies.mjs'], { cwd: this.folder, timeout: 30_000 });
  }

  version(name: string): string {
    return manifest(join(this.folder, 'node_modules', name)).version;
  }

  private tsc(...args: string[]): Promise<string> {
    const compiler = join(this.folder, 'node_modules/typescript/bin/tsc');
    return run(process.execPath, [compiler, '-p', '.', ...args], { cwd: this.folder });
  }
}

/** The project of a row of rows.ts. */
export function planOfRow(row: Row): Plan {
  const parts = [row.platform, row.swagger === 'with' ? 'swagger' : ''];
  const replaced = parts.filter((part) => part === 'fastify' || part === 'swagger');
  return {
    modules: row.modules,
    typescript: `~${row.typescript}.0`,
    dependencies: dependencies(row),
    overrides: row.override ? { typeorm: { ioredis: '$ioredis' } } : undefined,
    sources: [
      ['app/src', 'src'],
      ['app/copies.mjs', 'copies.mjs'],
      ...replaced.map((part) => [`app/${part}`, 'src'] as const),
    ],
  };
}

/** The project of a set-up of setups.ts: with the newest versions, and no optional peer but those that it installs. */
export function planOfSetup({ name, installs }: Setup): Plan {
  const needed = Object.entries(OURS.peerDependencies).filter(
    ([peer]) => installs.includes(peer) || !optionalPeers().includes(peer),
  );
  return {
    modules: 'cjs',
    typescript: '~6.0.0',
    dependencies: {
      ...Object.fromEntries(needed),
      '@nestjs/platform-express': OURS.peerDependencies['@nestjs/core'] ?? '',
      ...(installs.includes('ioredis') ? { ioredis: '^5.0.0' } : {}), // with TypeORM, npm refuses 6
    },
    sources: [`${name}.ts`, 'leads.controller.ts', 'main.ts'].map((file) => [
      `setups/${file}`,
      `src/${file}`,
    ]),
    files: { 'src/app.module.ts': `export { AppModule } from './${name}.js';\n` },
  };
}

/** Names of the peers that an application may do without. */
export function optionalPeers(): string[] {
  return Object.keys(OURS.peerDependenciesMeta);
}

/** As `nest new` makes them, but strict. */
const COMPILER_OPTIONS = {
  module: 'nodenext',
  moduleResolution: 'nodenext',
  target: 'es2023',
  types: ['node'],
  esModuleInterop: true,
  isolatedModules: true,
  declaration: true,
  removeComments: true,
  emitDecoratorMetadata: true,
  experimentalDecorators: true,
  sourceMap: true,
  rootDir: 'src',
  outDir: 'dist',
  skipLibCheck: true,
  forceConsistentCasingInFileNames: true,
  strict: true,
};

function dependencies(row: Row): Record<string, string> {
  const nest = `^${row.nest}.0.0`;
  const chosen: Record<string, string> = {
    ...OURS.peerDependencies, // npm takes the newest that fits
    '@nestjs/common': nest,
    '@nestjs/core': nest,
    '@nestjs/typeorm': `^${row.nestTypeorm}.0.0`,
    typeorm: row.typeorm === '1' ? '^1.0.0' : '^0.3.20',
    ioredis: `^${row.ioredis}.0.0`,
  };
  const exact = Object.entries(OURS.peerDependencies).map(([name, range]) => [name, oldest(range)] as const);
  return {
    ...(row.versions === 'oldest' ? Object.fromEntries(exact) : chosen),
    [`@nestjs/platform-${row.platform}`]: row.versions === 'oldest' ? oldest(nest) : nest,
    ...(row.swagger === 'with' ? { '@nestjs/swagger': nest } : {}),
  };
}

/** The version that a range of ours begins with. */
function oldest(range: string): string {
  const [version] = /\d+\.\d+(\.\d+)?/.exec(range) ?? [];
  if (!version) throw new Error(`no version in ${range}`);
  return version.split('.').length === 2 ? `${version}.0` : version;
}

function manifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

function writeJson(path: string, content: unknown): void {
  writeFileSync(path, `${JSON.stringify(content, null, 2)}\n`);
}
