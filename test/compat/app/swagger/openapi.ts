import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';

/** What the application's OpenAPI document says of `POST /leads`. */
export function describedOperation(application: INestApplication): object | undefined {
  const settings = new DocumentBuilder().setTitle('leads').build();
  return SwaggerModule.createDocument(application, settings).paths['/leads']?.post;
}
