import {
  All,
  Controller,
  Injectable,
  Module,
  Post,
  Req,
  type CanActivate,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import { NestFactory, RouterModule } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import express from 'express';
import fc from 'fast-check';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { httpScope } from '../../lib';
import { rawRequest, type PlatformRequest } from '../../lib/http/platform';
import { target } from '../../lib/http/request/target';
import type { Platform } from '../support/app';
import { runs } from '../support/arbitraries';
import { RawClient } from '../support/raw-client';

/** What a request came to: the route, its parameters as a handler gets them, and the path that its key belongs to. */
interface Seen {
  readonly route: string;
  readonly params: Record<string, unknown>;
  readonly path: string;
  readonly changed?: Record<string, string>;
}

let change: ((request: IncomingMessage, params: Record<string, unknown>) => void) | undefined;

/** Changes what the router has found, as guards and hooks may. */
@Injectable()
class ChangingGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<PlatformRequest>();
    change?.(rawRequest(request), request.params as Record<string, unknown>);
    return true;
  }
}

function seen(route: string, request: PlatformRequest): Seen {
  const { path, params } = target(request);
  return { route, params: request.params as Record<string, unknown>, path, changed: params };
}

@Controller()
class RoutesController {
  @Post('val')
  text(@Req() request: PlatformRequest): Seen {
    return seen('val', request);
  }

  @Post('items/:id')
  item(@Req() request: PlatformRequest): Seen {
    return seen('item', request);
  }

  @Post('items/:id/Parts/part-:part.json')
  part(@Req() request: PlatformRequest): Seen {
    return seen('part', request);
  }

  @Post('pairs/:a-:b')
  pair(@Req() request: PlatformRequest): Seen {
    return seen('pair', request);
  }

  @All('files/*')
  files(@Req() request: PlatformRequest): Seen {
    return seen('files', request);
  }
}

@Controller('~nested')
class NestedController {
  @Post(':id/Done')
  done(@Req() request: PlatformRequest): Seen {
    return seen('nested', request);
  }
}

@Module({ controllers: [NestedController] })
class NestedModule {}

@Module({
  imports: [NestedModule, RouterModule.register([{ path: 'tenants/:tenant', module: NestedModule }])],
  controllers: [RoutesController],
})
class RoutesModule {}

/** Each row is an application whose router takes more or fewer spellings for one. */
const APPS: [string, Platform, string, (() => Record<string, unknown>) | undefined][] = [
  ['Express', 'express', '', undefined],
  ['Express, strict and case-sensitive', 'express', '', () => ({ strict: true })],
  ['Express, mounted under a path', 'express', '/mounted', undefined],
  ['Fastify', 'fastify', '', () => ({})],
  [
    'Fastify, lenient',
    'fastify',
    '',
    () => ({
      routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true, caseSensitive: false },
    }),
  ],
];

describe.each(APPS)('a path on %s', (_, platform, mount, options) => {
  let app: INestApplication;
  let outer: Server | undefined;
  let url: string;

  beforeAll(async () => {
    const settings = { logger: false as const, abortOnError: false };
    if (platform === 'fastify')
      app = await NestFactory.create(RoutesModule, new FastifyAdapter(options?.()), settings);
    else {
      const instance = express();
      instance.set('strict routing', options !== undefined);
      instance.set('case sensitive routing', options !== undefined);
      app = await NestFactory.create(RoutesModule, new ExpressAdapter(instance), settings);
    }
    app.useGlobalGuards(new ChangingGuard());
    app.setGlobalPrefix('Api');
    if (mount) {
      await app.init();
      const parent = express();
      parent.use(mount, app.getHttpAdapter().getInstance() as express.Express);
      outer = createServer(parent).listen(0, '127.0.0.1');
      await new Promise((resolve) => outer?.once('listening', resolve));
      url = `http://127.0.0.1:${(outer.address() as AddressInfo).port}`;
    } else {
      await app.listen(0, '127.0.0.1');
      url = (await app.getUrl()).replace('localhost', '127.0.0.1');
    }
  });
  afterAll(async () => {
    await new Promise((resolve) => (outer ? outer.close(resolve) : resolve(undefined)));
    await app.close();
  });
  afterEach(() => {
    change = undefined;
  });

  /** Undefined if no route takes it. */
  const ask = async (path: string): Promise<Seen | undefined> => {
    const client = await RawClient.open(url);
    try {
      const answer = await client.ask({ target: mount + path });
      return answer.status === 201 || answer.status === 200 ? (JSON.parse(answer.text) as Seen) : undefined;
    } finally {
      client.close();
    }
  };

  const NAMED: readonly (readonly Segment[])[] = [
    ['val'],
    ['items', 0],
    ['items', 0, 'Parts', ['part-', 1, '.json']],
    ['tenants', 0, '~nested', 1, 'Done'],
  ];
  const route = fc.constantFrom(...NAMED);
  const letters = ['a', 'A', 'b', '7', '~', '-', '_', '.', '/', '%', ';', '@', '+', 'é', ' ', '"', '?', '#'];
  const value = fc.string({ unit: fc.constantFrom(...letters), minLength: 1, maxLength: 6 });
  const values = fc.tuple(value, value);
  const choices = fc.infiniteStream(fc.nat(5));

  /** Text, the index of a value, or a mixture of both in one segment. */
  type Segment = string | number | readonly (string | number)[];

  /** One of the spellings that RFC 3986 calls equal, and, where `lenient`, that lenient routers take for one. */
  const spelling = (
    segments: readonly Segment[],
    [a, b]: readonly [string, string],
    choose: () => number,
    lenient: boolean,
  ): string => {
    const anyCase = (text: string): string =>
      text.replace(/[a-z]/gi, (each) => (choose() > 3 ? each.toUpperCase() : each.toLowerCase()));
    const encoded = (text: string): string => Array.from(text, (each) => spelled(each, choose)).join('');
    const text = (each: string): string => (lenient ? anyCase(each) : each);
    const part = (each: Segment): string =>
      typeof each === 'number'
        ? encoded(each === 0 ? a : b)
        : typeof each === 'string'
          ? text(each)
          : each.map(part).join('');
    const slash = (): string => (lenient && choose() === 5 ? '//' : '/');
    return (
      [text('Api'), ...segments].map((each) => slash() + part(each)).join('') +
      (lenient && choose() > 3 ? '/' : '')
    );
  };

  it('is one in all spellings of it that the router takes for one route, and the one that httpScope() spells', async () => {
    let met = 0;
    await fc.assert(
      fc.asyncProperty(route, values, choices, fc.boolean(), async (segments, given, stream, lenient) => {
        const choose = (): number => stream.next().value as number;
        const plain = await ask(spelling(segments, given, () => 0, false));
        const other = await ask(spelling(segments, given, choose, lenient));
        if (!plain || plain.route !== other?.route) return;
        if (JSON.stringify(plain.params) !== JSON.stringify(other.params)) return;
        met += 1;
        expect(other).toEqual(plain);
        expect(other.changed).toBeUndefined();
        const operators = spelling(segments, given, () => 0, false);
        expect(`POST ${other.path}`).toBe(httpScope('POST', mount + operators));
      }),
      runs(150),
    );
    expect(met).toBeGreaterThan(30);
  });

  it('is never that of another route, or of other parameters', async () => {
    const piece = fc.constantFrom(
      ...[
        '/',
        '//',
        'a',
        'A',
        'b',
        '7',
        '-',
        '.',
        ';',
        '~',
        '%7e',
        '%7E',
        '%2f',
        '%2F',
        '%25',
        '%41',
        '%c3%a9',
        '%C3%A9',
      ],
      ...[
        '/items',
        '/Items',
        '/Parts/part-',
        '.json',
        '/val',
        '/VAL',
        '/pairs/',
        '/files/',
        '/tenants/',
        '/~nested/',
        '/Done',
      ],
    );
    const path = fc
      .oneof(
        fc.tuple(
          fc.constantFrom('/items/', '/pairs/', '/files/', '/val', '/ITEMS/'),
          fc.array(piece, { maxLength: 4 }),
        ),
        fc.tuple(fc.constant(''), fc.array(piece, { minLength: 1, maxLength: 6 })),
      )
      .map(([head, pieces]) => `/Api${head}${pieces.join('')}`);
    const of = new Map<string, string>();
    let met = 0;
    await fc.assert(
      fc.asyncProperty(path, async (sent) => {
        const found = await ask(sent);
        if (!found) return;
        met += 1;
        const resource = JSON.stringify([found.route, found.params]);
        const key = JSON.stringify([found.path, found.changed]);
        expect(of.get(key) ?? resource).toBe(resource);
        of.set(key, resource);
      }),
      runs(400),
    );
    expect(met).toBeGreaterThan(40);
  });

  it('ends at a number sign, which no client should send, where the router ends it', async () => {
    const [plain, marked] = [await ask('/Api/items/1'), await ask('/Api/items/1#part')];
    expect(marked).toEqual(plain);
    expect(marked?.params).toMatchObject({ id: '1' });
  });

  it('is told from another that is rewritten to the same one after it was routed', async () => {
    change = (request) => (request.url = '/shared');
    const [one, two] = [await ask('/Api/items/1'), await ask('/Api/items/2')];
    expect([one?.changed, two?.changed]).toEqual([{ id: '1' }, { id: '2' }]);
    change = (_, params) => (params.id = 'shared');
    const [three, four] = [await ask('/Api/items/1'), await ask('/Api/items/2')];
    expect([three?.path, four?.path]).toEqual([`${mount}/Api/items/1`, `${mount}/Api/items/2`]);
    const whose = { params: { id: 'shared' } };
    expect(httpScope('POST', `${mount}/Api/items/1`, whose)).toBe(`POST ${three?.path} param.id:s:shared`);
  });

  it('does not depend on what a guard has loaded in the place of a parameter', async () => {
    change = (_, params) => (params.id = { updatedAt: Math.random() });
    expect((await ask('/Api/items/1'))?.changed).toBeUndefined();
  });
});

/** A character in a path: as it is where it may be, or percent-encoded in upper or lower case. */
function spelled(character: string, choose: () => number): string {
  const unreserved = /[\w.~-]/.test(character);
  if (unreserved && choose() < 3) return character;
  const bytes = [...Buffer.from(character)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  return choose() < 3 ? bytes.toUpperCase() : bytes;
}
