import { Controller, Module, Post } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { Idempotent, IdempotencyModule } from 'nestjs-idempotency';
import {
  expectOnce,
  expectProtected,
  IdempotencyTesting,
  IdempotencyTestingModule,
} from 'nestjs-idempotency/testing';
import { KeptLog } from '../support/log';

@Controller()
class LeadsController {
  @Post('leads')
  @Idempotent({ transaction: true })
  create(): string {
    return 'created';
  }
}

@Controller()
class NotesController {
  @Post('notes')
  @Idempotent()
  create(): string {
    return 'created';
  }
}

/** As an application may hold its module, so that Nest can tell it from others. */
const idempotency = IdempotencyModule.forRoot({ required: true });

@Module({ imports: [idempotency], controllers: [LeadsController] })
class AppModule {}

const RUNNERS = ['NODE_ENV', 'JEST_WORKER_ID', 'VITEST', 'NODE_TEST_CONTEXT'];

describe('IdempotencyTestingModule', () => {
  const before = Object.fromEntries(RUNNERS.map((name) => [name, process.env[name] ?? '']));
  afterEach(() => void Object.assign(process.env, before));

  it('takes the place of the module without a warning', async () => {
    const log = new KeptLog();
    const built = await Test.createTestingModule({
      imports: [IdempotencyTestingModule.forRoot({ redis: { ttl: '1h' }, postgres: { retention: '7d' } })],
      controllers: [LeadsController],
    })
      .setLogger(log)
      .compile();
    const app = built.createNestApplication();
    await app.init();
    expect(IdempotencyTesting.of(app).records()).toEqual([]);
    expect(
      log.lines.filter(
        (line) => /memory|idempoten/i.test(line) && !line.includes('dependencies initialized'),
      ),
    ).toEqual([]);
    await app.close();
  });

  it('warns of the faults that a test asks for, and logs no error', async () => {
    const log = new KeptLog();
    const errors: unknown[] = [];
    const built = await Test.createTestingModule({
      imports: [IdempotencyTestingModule.forRoot()],
      controllers: [NotesController],
    })
      .setLogger(Object.assign(log, { error: (...said: unknown[]) => errors.push(said) }))
      .compile();
    const app = built.createNestApplication();
    await app.init();
    const note = { path: '/notes', headers: { 'Idempotency-Key': 'a' } };
    await expectOnce(app, note);
    await app.close();
    expect(errors).toEqual([]);
    expect(log.lines.join('\n')).toMatch(/The owner of this claim has crashed, as the test asked/);
  });

  it('says so where an application does not import the module, or is none', async () => {
    const app = await Test.createTestingModule({ controllers: [LeadsController] }).compile();
    for (const look of [IdempotencyTesting.of.bind(IdempotencyTesting), expectProtected])
      expect(() => look(app)).toThrow(
        /the application under test does not import it\. Import IdempotencyModule/,
      );
    await expect(expectOnce(app, () => 1)).rejects.toThrow(/does not import it/);
    expect(() => IdempotencyTesting.of(undefined as never)).toThrow(TypeError);
  });

  it('replaces a module that the application holds, by overrideModule()', async () => {
    const built = await Test.createTestingModule({ imports: [AppModule] })
      .overrideModule(idempotency as never)
      .useModule(IdempotencyTestingModule.forRoot({ required: true }) as never)
      .compile();
    const app = built.createNestApplication({ logger: false });
    await app.init();
    expect(IdempotencyTesting.of(app).records()).toEqual([]);
    await app.close();
  });

  it('refuses the options that the module refuses', () => {
    expect(() => IdempotencyTestingModule.forRoot({ lease: 'soon' as never })).toThrow(/option "lease"/);
    expect(() => IdempotencyTestingModule.forRoot({ redis: { ttl: -1 } })).toThrow(/option "redis.ttl"/);
    expect(() => IdempotencyTestingModule.forRoot({ postgres: false, transaction: true })).toThrow(
      /needs Postgres/,
    );
  });

  it.each(['production', 'development', ''])('is refused outside of tests: NODE_ENV=%s', (environment) => {
    Object.assign(process.env, Object.fromEntries(RUNNERS.map((name) => [name, ''])), {
      NODE_ENV: environment,
    });
    expect(() => IdempotencyTestingModule.forRoot()).toThrow(
      /for tests, and this is not a test.*`store: 'memory'`/,
    );
  });
});
