import { partOf, type Injector } from './idempotency-testing';
import { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { RouteExplorer } from '../http/routes/route-explorer';
import { RouteOptionsReader } from '../http/routes/route-options';
import { RoutePlaces, type RoutePlace } from './route-places';

/** A route that `@Idempotent()` protects, as plain data. */
export interface ProtectedRouteEntry extends RoutePlace {
  /** Such as `LeadsController.create`. */
  readonly handler: string;
  /** Those that method, class and module set. A function stands by its name. */
  readonly options: Readonly<Record<string, unknown>>;
}

/**
 * The protected routes of an application, in an order that does not change, for a snapshot:
 * `expect(expectProtected(app)).toMatchSnapshot()`. Call it after `app.setGlobalPrefix()` and `app.enableVersioning()`.
 * @throws IdempotencySetupError if the application does not import the module
 */
export function expectProtected(app: Injector): ProtectedRouteEntry[] {
  const reader = partOf(app, RouteOptionsReader);
  const explorer = partOf(app, RouteExplorer);
  const places = new RoutePlaces(
    app.get(ApplicationConfig, { strict: false }) as ApplicationConfig,
    app.get(ModulesContainer, { strict: false }) as ModulesContainer,
  );
  const entries = explorer.explore().flatMap(({ type, handler }) => {
    const options = plain(reader.given(type, handler));
    const name = `${type.name}.${handler.name}`;
    return places.of(type, handler).map((place) => ({ ...place, handler: name, options }));
  });
  const keyed = entries.map((entry) => [sortKey(entry), entry] as const);
  return keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, entry]) => entry);
}

/** By path, then by method. */
function sortKey({ route, host = '', version = '', handler }: ProtectedRouteEntry): string {
  const [method = '', path = ''] = route.split(' ');
  return [path, method, host, version, handler].join(' ');
}

function plain(options: object): Record<string, unknown> {
  const entries = Object.entries(options as Record<string, unknown>).map(([name, value]) => [
    name,
    typeof value === 'function' ? value.name || 'function' : value,
  ]);
  return Object.fromEntries(entries) as Record<string, unknown>;
}
