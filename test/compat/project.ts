import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CommandError, run } from './command';
import { npmInstall } from './registry';
import type { Row } from './rows';

const ROOT = join(__dirname, '../..');

interface Manifest {
  readonly version: string;
  readonly engines: { readonly node: string };
  readonly peerDependencies: Readonly<Record<string, string>>;
}

const OURS = manifest(ROOT);

/** The oldest Node that `engines` allows. */
export const OLDEST_NODE = oldest(OURS.engines.node);

/** npm's own reason why the versions of a row do not go together. */
export class RefusedError extends Error {}

/** A fresh project with the packed package and the versions of a row, and the template application. */
export class Project {
  constructor(
    readonly folder: string,
    private readonly row: Row,
    private readonly node: string,
  ) {}

  /** @param tarball path of the packed package */
  write(tarball: string): void {
    const { row, folder } = this;
    mkdirSync(folder);
    const app = join(__dirname, 'app');
    cpSync(join(app, 'src'), join(folder, 'src'), { recursive: true });
    cpSync(join(app, 'copies.mjs'), join(folder, 'copies.mjs'));
    for (const part of [row.platform, row.swagger === 'with' ? 'swagger' : ''])
      if (part === 'fastify' || part === 'swagger')
        cpSync(join(app, part), join(folder, 'src'), { recursive: true });
    writeJson(join(folder, 'package.json'), {
      name: 'application',
      private: true,
      type: row.modules === 'esm' ? 'module' : 'commonjs',
      dependencies: { ...dependencies(row), 'nestjs-idempotency': `file:${tarball}` },
      devDependencies: { '@types/node': '^20', '@types/pg': '^8', typescript: `~${row.typescript}.0` },
      ...(row.override ? { overrides: { typeorm: { ioredis: '$ioredis' } } } : {}),
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
