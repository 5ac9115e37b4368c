import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';

/** The paths of the application's OpenAPI document. */
export function describedPaths(application: INestApplication): string[] {
  const settings = new DocumentBuilder().setTitle('leads').build();
  return Object.keys(SwaggerModule.createDocument(application, settings).paths);
}
