import { RequestMethod, VERSION_NEUTRAL, VersioningType, type Type } from '@nestjs/common';
import {
  HOST_METADATA,
  METHOD_METADATA,
  MODULE_PATH,
  PATH_METADATA,
  VERSION_METADATA,
} from '@nestjs/common/constants';
import type { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { RoutePathFactory } from '@nestjs/core/router/route-path-factory';
import type { Handler } from '../http/platform';

/** Where a route is served. */
export interface RoutePlace {
  /** Such as `POST /api/v1/leads`. */
  readonly route: string;
  readonly host?: string;
  /** Where the path does not have it. */
  readonly version?: string;
}

type RouteMetadata = Parameters<RoutePathFactory['create']>[0];
type Version = RouteMetadata['methodVersion'];

/** Says of a handler where Nest serves it: Nest itself does so only while it makes its routes. */
export class RoutePlaces {
  private readonly paths: RoutePathFactory;

  constructor(
    private readonly config: ApplicationConfig,
    private readonly modules: ModulesContainer,
  ) {
    this.paths = new RoutePathFactory(config);
  }

  of(type: Type, handler: Handler): RoutePlace[] {
    const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod;
    const host = Reflect.getMetadata(HOST_METADATA, type) as unknown;
    const version = this.versionOf(type, handler);
    const places = this.pathsOf(type, handler, method).map((path) => ({
      route: `${RequestMethod[method]} ${path}`,
      ...(host === undefined ? {} : { host: [host].flat().map(String).join(', ') }),
      ...(version === undefined ? {} : { version }),
    }));
    return [...new Map(places.map((place) => [place.route, place])).values()];
  }

  private pathsOf(type: Type, handler: Handler, requestMethod: RequestMethod): string[] {
    const versioningOptions = this.config.getVersioning();
    const prefix = this.config.getGlobalPrefix();
    const shared: RouteMetadata = {
      versioningOptions,
      globalPrefix: prefix && (prefix.startsWith('/') ? prefix : `/${prefix}`),
      controllerVersion: this.controllerVersionOf(type),
      methodVersion: Reflect.getMetadata(VERSION_METADATA, handler) as Version,
    };
    return this.modulePathsOf(type).flatMap((modulePath) =>
      textsOf(Reflect.getMetadata(PATH_METADATA, type)).flatMap((ctrlPath) =>
        textsOf(Reflect.getMetadata(PATH_METADATA, handler)).flatMap((methodPath) =>
          this.paths.create({ ...shared, modulePath, ctrlPath, methodPath }, requestMethod),
        ),
      ),
    );
  }

  /** Those of `RouterModule`, of each module that has the controller. */
  private modulePathsOf(type: Type): (string | undefined)[] {
    const having = [...this.modules.values()].filter(({ controllers }) =>
      [...controllers.values()].some(({ metatype }) => metatype === type),
    );
    return having.map(({ metatype }) => {
      const own = Reflect.getMetadata(MODULE_PATH + this.modules.applicationId, metatype) as
        string | undefined;
      return own ?? (Reflect.getMetadata(MODULE_PATH, metatype) as string | undefined);
    });
  }

  private versionOf(type: Type, handler: Handler): string | undefined {
    const versioning = this.config.getVersioning();
    if (!versioning || versioning.type === VersioningType.URI) return undefined;
    const version = Reflect.getMetadata(VERSION_METADATA, handler) as Version;
    const named = [version ?? this.controllerVersionOf(type) ?? []].flat();
    if (named.length === 0) return undefined;
    return named.map((each) => (each === VERSION_NEUTRAL ? 'neutral' : String(each))).join(', ');
  }

  private controllerVersionOf(type: Type): Version {
    const own = Reflect.getMetadata(VERSION_METADATA, type) as Version;
    return own ?? this.config.getVersioning()?.defaultVersion;
  }
}

function textsOf(paths: unknown): string[] {
  return [paths].flat().map((path) => `/${String(path).replace(/^\/+/, '')}`);
}
