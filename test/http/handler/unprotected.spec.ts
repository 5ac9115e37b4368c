import type { ExecutionContext } from '@nestjs/common';
import { assertSeen, letPass } from '../../../lib/http/handler/unprotected';
import { Idempotent } from '../../../lib';

class Plain {
  handle(): void {
    return;
  }
}
@Idempotent()
class OnClass extends Plain {}
class OnMethod {
  @Idempotent()
  handle(): void {
    return;
  }
}

const asked = (type: typeof Plain, method: string, kind = 'http', request: object = { method }): void => {
  const context = {
    getType: () => kind,
    getArgByIndex: () => request,
    getClass: () => type,
    getHandler: () => type.prototype.handle,
  };
  assertSeen(context as unknown as ExecutionContext, request);
};

describe('a request that no module has seen', () => {
  it.each<[string, typeof Plain, string]>([
    ['its method is decorated', OnMethod, 'POST'],
    ['its method is decorated, also for GET', OnMethod, 'GET'],
    ['its class is decorated', OnClass, 'DELETE'],
  ])('is refused where %s', (_, type, method) => {
    expect(() => asked(type, method)).toThrow(
      /has @Idempotent\(\), but this application has no IdempotencyModule/,
    );
  });

  it.each<[string, typeof Plain, string, unknown]>([
    ['a message, and its method is decorated', OnMethod, 'rpc', { lead: 1 }],
    ['a message, and its class is decorated', OnClass, 'rpc', 'a lead'],
    ['an event of a web socket', OnMethod, 'ws', {}],
    ['a GraphQL operation without a root', OnMethod, 'graphql', undefined],
    ['a call of a library that says nothing of its kind', OnMethod, 'http', { lead: 1 }],
  ])('is refused as none that can be protected where it is %s', (_, type, kind, request) => {
    expect(() => asked(type, 'POST', kind, request as object)).toThrow(
      `${type.name}.handle has @Idempotent(), which protects HTTP requests alone, and this call (of type '${kind}') is not one. ` +
        'Protect its work with IdempotencyService.execute().',
    );
  });

  it.each<[string, typeof Plain, string, string]>([
    ['is not decorated', Plain, 'POST', 'http'],
    ['is safe, and its class is decorated', OnClass, 'HEAD', 'http'],
    ['is no HTTP request, nor decorated', Plain, 'POST', 'rpc'],
  ])('runs where it %s', (_, type, method, kind) => {
    expect(() => asked(type, method, kind)).not.toThrow();
  });

  it('runs where a module has let it pass', () => {
    const request = { method: 'POST' };
    letPass(request);
    expect(() => asked(OnMethod, 'POST', 'http', request)).not.toThrow();
  });
});
