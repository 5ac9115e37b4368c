import { once } from 'node:events';
import { createServer, IncomingMessage, ServerResponse, type Server } from 'node:http';
import { connect, Socket, type AddressInfo } from 'node:net';
import { isClosed, onceClosed } from '../../lib/http/closed';
import { cut } from '../../lib/http/response/node-response';
import { until } from '../support/eventually';

it('a response that was cut is closed', () => {
  const response = new ServerResponse(new IncomingMessage(new Socket()));
  expect(isClosed(response)).toBe(false);
  cut(response);
  expect(isClosed(response)).toBe(true);
});

describe('responses to requests that were pipelined', () => {
  let server: Server;
  let client: Socket;
  let responses: ServerResponse[];
  const NUMBER = 20;

  beforeEach(async () => {
    responses = [];
    server = createServer((_, response) => responses.push(response)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    client.on('error', () => undefined);
    client.resume().write('GET / HTTP/1.1\r\nHost: test\r\n\r\n'.repeat(NUMBER));
    await until(() => responses.length === NUMBER);
  });
  afterEach(() => {
    client.destroy();
    server.close();
  });

  it('are closed with their connection, also those that wait for others', async () => {
    const told: number[] = [];
    const stops = responses.map((response, i) => onceClosed(response, () => told.push(i)));
    expect(responses[0]!.req.socket.listenerCount('close')).toBeLessThan(10);
    stops[0]!();
    stops[NUMBER - 1]!();
    expect(responses.some(isClosed)).toBe(false);
    client.resetAndDestroy();
    await until(() => told.length >= NUMBER - 2);
    expect(told.sort((a, b) => a - b)).toEqual(responses.map((_, i) => i).slice(1, -1));
    expect(responses.every(isClosed)).toBe(true);
    let late = 0;
    onceClosed(responses[1]!, () => (late += 1));
    expect(late).toBe(1);
  });

  it('are closed once when they have been sent, and not again with their connection', async () => {
    const told: number[] = [];
    responses.forEach((response, i) => onceClosed(response, () => told.push(i)));
    for (const response of responses) response.end('x');
    await until(() => told.length === NUMBER);
    const { socket } = responses[0]!.req;
    client.resetAndDestroy();
    await until(() => socket.closed);
    expect(told).toEqual(responses.map((_, i) => i));
  });
});
