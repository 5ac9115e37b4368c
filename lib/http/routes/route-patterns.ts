import { Injectable, RequestMethod, type Type } from '@nestjs/common';
import { METHOD_METADATA, MODULE_PATH, PATH_METADATA, VERSION_METADATA } from '@nestjs/common/constants';
import { ApplicationConfig, ModulesContainer } from '@nestjs/core';
import { RoutePathFactory } from '@nestjs/core/router/route-path-factory';
import type { ProtectedRoute } from './route-explorer';

type Paths = string | string[];
type Versions = ReturnType<RoutePathFactory['getVersion']>;

/** Under which patterns Nest registers routes. Read once the application's prefix and versioning are set. */
@Injectable()
export class RoutePatterns {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly application: ApplicationConfig,
  ) {}

  /**
   * Method and pattern, such as `POST /v1/leads/:id`, as requests have them. None for `@All()`, whose method only a
   * request has.
   */
  of({ type, handler }: Pick<ProtectedRoute, 'type' | 'handler'>): string[] {
    const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod;
    if (method === RequestMethod.ALL) return [];
    const versioningOptions = this.application.getVersioning();
    const paths = new RoutePathFactory(this.application);
    return this.modulePathsOf(type).flatMap((modulePath) =>
      paths
        .create(
          {
            modulePath,
            ctrlPath: Reflect.getMetadata(PATH_METADATA, type) as string,
            methodPath: Reflect.getMetadata(PATH_METADATA, handler) as Paths as string,
            globalPrefix: this.application.getGlobalPrefix(),
            controllerVersion: (Reflect.getMetadata(VERSION_METADATA, type) ??
              versioningOptions?.defaultVersion) as Versions,
            methodVersion: Reflect.getMetadata(VERSION_METADATA, handler) as Versions,
            versioningOptions,
          },
          method,
        )
        .map((path) => `${RequestMethod[method]} ${path}`),
    );
  }

  /** What `RouterModule` puts before the paths of a controller, in each module that has it. */
  private modulePathsOf(type: Type): (string | undefined)[] {
    const modules = [...this.modules.values()].filter(({ controllers }) => controllers.has(type));
    return modules.map(
      ({ metatype }) =>
        (Reflect.getMetadata(MODULE_PATH + this.modules.applicationId, metatype) ??
          Reflect.getMetadata(MODULE_PATH, metatype)) as string | undefined,
    );
  }
}
