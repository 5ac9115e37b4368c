import { randomUUID, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect, constants, type ClientHttp2Session } from 'node:http2';
import { request } from 'node:https';
import { text } from 'node:stream/consumers';
import { Controller, Injectable, Post, UseGuards, type CanActivate } from '@nestjs/common';
import { httpScope, Idempotent } from '../../../../lib';
import { startPostgres, type RunningPostgres } from '../../../../servers';
import { startApp, type Platform, type TestApp } from '../../../support/app';
import { ANN, AUTHORITY, BOB, IMPOSTOR, RENEWED, SERVER, type Identity } from '../../../support/certificates';
import { eventually } from '../../../support/eventually';
import { gate, type Gate } from '../../../support/gate';
import { KeptLog } from '../../../support/log';

let runs = 0;
let held: Gate | undefined;

/** Takes its time before the request's scope is known. */
@Injectable()
class SlowGuard implements CanActivate {
  async canActivate(): Promise<boolean> {
    await held?.pass();
    return true;
  }
}

@Controller('leads')
@UseGuards(SlowGuard)
class LeadsController {
  @Post()
  @Idempotent({ required: true })
  create(): unknown {
    runs += 1;
    return { nonce: randomUUID() };
  }
}

const nameOf = ({ cert }: Identity): string => {
  const { issuer, subject, subjectAltName = '' } = new X509Certificate(cert);
  return [issuer, subject, subjectAltName].join('\n\n');
};

describe.each<Platform>(['express', 'fastify'])('a caller with a client certificate on %s', (platform) => {
  let postgres: RunningPostgres;
  let app: TestApp;
  let key: string;
  const log = new KeptLog();

  beforeAll(async () => {
    postgres = await startPostgres();
    const https = { ...SERVER, ca: AUTHORITY, requestCert: true, rejectUnauthorized: false };
    app = await startApp({
      platform,
      databaseUrl: postgres.url,
      controllers: [LeadsController],
      providers: [SlowGuard],
      settings: platform === 'express' ? { httpsOptions: https } : {},
      fastify: { https },
      configure: (nest) => nest.useLogger(log),
    });
  });
  afterAll(async () => {
    await app.close();
    await postgres.stop();
  });
  beforeEach(() => {
    runs = 0;
    held = undefined;
    key = randomUUID();
  });

  const send = (identity: Identity | undefined, headers: Record<string, string> = {}) => {
    const sent = request(`${app.url.replace('http:', 'https:')}/leads`, {
      ...identity,
      method: 'POST',
      ca: AUTHORITY,
      servername: 'localhost',
      agent: false,
      headers: {
        'idempotency-key': key,
        'content-type': 'application/json',
        'content-length': 2,
        ...headers,
      },
    });
    sent.end('{}');
    return sent;
  };
  const post = async (identity?: Identity, headers?: Record<string, string>): Promise<string> => {
    const [answer] = (await once(send(identity, headers), 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(201);
    return text(answer);
  };

  it('never gets the response of one with another certificate, or with none', async () => {
    const callers = [ANN, BOB, undefined];
    const firsts: string[] = [];
    for (const caller of callers) firsts.push(await post(caller));
    expect(new Set(firsts).size).toBe(3);
    for (const [i, caller] of callers.entries()) expect(await post(caller)).toBe(firsts[i]);
    expect(runs).toBe(3);
  });

  it('counts beside its other credentials, which many may share', async () => {
    const shared = { 'x-api-key': 'site' };
    expect(await post(ANN, shared)).not.toBe(await post(BOB, shared));
  });

  it('is the same once its certificate is renewed, and operators find its records', async () => {
    expect(await post(RENEWED)).toBe(await post(ANN));
    const scope = httpScope('POST', '/leads', { credentials: { ':client-certificate': nameOf(ANN) } });
    expect(await app.service.find(key, { scope })).toMatchObject({ state: 'completed' });
  });

  it('is not another whose name it has put into a certificate that no authority has signed', async () => {
    expect(await post(IMPOSTOR)).not.toBe(await post(ANN));
  });

  it('is not taken for one without a certificate when it has left early: nothing runs, and its retry runs once', async () => {
    held = gate();
    const left = send(ANN);
    left.on('error', () => undefined);
    await held.reached();
    left.destroy();
    await eventually(async () => expect(await connections()).toBe(0));
    held.open();
    await eventually(() => expect(log.lines.join('\n')).toContain('has left before its certificate'));
    expect(runs).toBe(0);
    await post(ANN);
    await post(ANN);
    expect(runs).toBe(1);
  });

  const connections = (): Promise<number> =>
    new Promise((resolve, reject) => {
      const server = app.app.getHttpServer() as import('node:net').Server;
      server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
    });
});

describe('a caller with a client certificate over HTTP/2', () => {
  it('is not taken for one without when it has given its request up early: nothing runs, and its retry runs once', async () => {
    runs = 0;
    const log = new KeptLog();
    const app = await startApp({
      platform: 'fastify',
      inMemory: true,
      controllers: [LeadsController],
      providers: [SlowGuard],
      fastify: { http2: true, https: { ...SERVER, ca: AUTHORITY, requestCert: true } },
      configure: (nest) => nest.useLogger(log),
    });
    const { port } = new URL(app.url);
    const session = connect('https://localhost', {
      ...ANN,
      ca: AUTHORITY,
      host: '127.0.0.1',
      port: Number(port),
    });
    const send = () => session.request({ ':method': 'POST', ':path': '/leads', 'idempotency-key': 'left' });
    try {
      held = gate();
      const left = send();
      await held.reached();
      left.close(constants.NGHTTP2_CANCEL);
      await once(left, 'close');
      await pong(session);
      held.open();
      await eventually(() => expect(log.lines.join('\n')).toContain('has left before its certificate'));
      expect(runs).toBe(0);
      expect(await text(send())).toBe(await text(send()));
      expect(runs).toBe(1);
    } finally {
      session.close();
      await app.close();
    }
  });

  /** What was sent before has then come to the server. */
  const pong = (session: ClientHttp2Session): Promise<void> =>
    new Promise((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
});
