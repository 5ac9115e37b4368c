import type { Type } from '@nestjs/common';
import { Idempotent } from '../../../lib';
import type { Handler } from '../../../lib/http/platform';
import { RouteOptionsReader } from '../../../lib/http/routes/route-options';
import { resolveModuleOptions, type RouteOptions } from '../../../lib/options/resolve';

@Idempotent({ lease: '2s' })
class OnClass {
  plain(): void {
    return;
  }
  @Idempotent({ lease: '3s', required: true })
  own(): void {
    return;
  }
}
class Derived extends OnClass {}
class Undecorated {
  plain(): void {
    return;
  }
}

describe('the options of a route', () => {
  const reader = new RouteOptionsReader(resolveModuleOptions({ lease: '1s', waitTimeout: '5s' }));
  const of = (type: Type, name: string, method = 'POST'): RouteOptions | undefined =>
    reader.of(type, (type.prototype as Record<string, Handler>)[name]!, method);

  it('are those of the method, then of the class, then of the module', () => {
    expect(of(OnClass, 'own')).toMatchObject({
      required: true,
      policy: { lease: 3_000, waitTimeout: 5_000 },
    });
    expect(of(OnClass, 'plain')).toMatchObject({
      required: false,
      policy: { lease: 2_000, waitTimeout: 5_000 },
    });
  });

  it('are those of both where a method or a class is decorated twice, of the upper one first', () => {
    @Idempotent({ waitTimeout: '7s' })
    @Idempotent({ waitTimeout: '8s', onOrphan: 'reject' })
    class Twice {
      @Idempotent({ lease: '3s' })
      @Idempotent({ lease: '4s', required: true })
      handle(): void {
        return;
      }
    }
    expect(of(Twice, 'handle')).toMatchObject({
      required: true,
      policy: { lease: 3_000, waitTimeout: 7_000, onOrphan: 'reject' },
    });
  });

  it('are none where neither is decorated', () => {
    expect(of(Undecorated, 'plain')).toBeUndefined();
  });

  it.each(['GET', 'HEAD', 'OPTIONS', 'TRACE'])(
    'of a class are none for %s, and those of a method count',
    (method) => {
      expect(of(OnClass, 'plain', method)).toBeUndefined();
      expect(of(OnClass, 'own', method)).toMatchObject({ required: true });
    },
  );

  it('are resolved once for each handler and class, as one handler may belong to several', () => {
    expect(of(OnClass, 'own')).toBe(of(OnClass, 'own'));
    expect(of(Derived, 'plain')?.policy.lease).toBe(2_000);
    expect(of(Derived, 'own')).not.toBe(of(OnClass, 'own'));
  });

  it('name the route where they are not valid', () => {
    class Wrong {
      handle(): void {
        return;
      }
    }
    Idempotent({ waitTimeout: '5s' })(Wrong);
    const strict = new RouteOptionsReader(resolveModuleOptions({}));
    Reflect.getMetadataKeys(Wrong).forEach((key) => Reflect.defineMetadata(key, { lease: -1 }, Wrong));
    expect(() => strict.of(Wrong, Wrong.prototype.handle, 'POST')).toThrow(
      /@Idempotent\(\) on Wrong\.handle: option "lease"/,
    );
  });
});
