import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Post,
  type INestApplication,
  type Type,
} from '@nestjs/common';
import {
  ApiConflictResponse,
  ApiCreatedResponse,
  ApiHeader,
  ApiInternalServerErrorResponse,
  ApiProperty,
  DocumentBuilder,
  SwaggerModule,
  type OpenAPIObject,
} from '@nestjs/swagger';
import { Idempotent, IdempotencyClaim, type IdempotencyOptions } from '../../../lib';
import { appModule } from '../../support/app';
import { NestFactory } from '@nestjs/core';

class Lead {
  @ApiProperty()
  name!: string;
}

@Controller('leads')
class LeadsController {
  @Post()
  @Idempotent({ required: true })
  create(@Body() lead: Lead, @IdempotencyClaim() claim?: unknown): unknown {
    return { lead, claim };
  }

  @Delete(':id')
  @HttpCode(204)
  @Idempotent({ header: 'X-Request-Key', maxKeyLength: 36 })
  remove(): void {
    return;
  }

  @Post('webhook')
  @Idempotent({ key: () => 'event' })
  webhook(): void {
    return;
  }

  @Post('described')
  @Idempotent()
  @ApiHeader({ name: 'idempotency-key', description: 'Our own words' })
  @ApiCreatedResponse({ type: Lead, headers: { 'X-Version': { schema: { type: 'string' } } } })
  @ApiConflictResponse({ description: 'The lead exists', type: Lead })
  @ApiInternalServerErrorResponse({ description: 'Never recorded' })
  described(): void {
    return;
  }

  @Post('compiled')
  @Idempotent()
  compiled(): Lead[] {
    return [];
  }

  @Get()
  list(): number {
    return 1;
  }

  @Post('plain')
  plain(): number {
    return 1;
  }
}

@Controller('headed')
@ApiHeader({ name: 'IDEMPOTENCY-KEY', description: 'Our own words' })
@ApiConflictResponse({ description: 'The lead exists', type: Lead })
class DescribedController {
  @Post()
  @Idempotent()
  create(): void {
    return;
  }

  @Post('own')
  @Idempotent()
  @ApiConflictResponse({ description: 'The owner differs' })
  own(): void {
    return;
  }

  @Post('plain')
  plain(): void {
    return;
  }
}

@Controller('class')
@Idempotent()
class DecoratedController {
  @Post()
  create(): number {
    return 1;
  }

  @Get()
  list(): number {
    return 1;
  }
}

/** The document as applications make it: before they listen. */
async function documentOf(controllers: Type[], options: IdempotencyOptions = {}): Promise<OpenAPIObject> {
  // Nothing is opened before the application is initialised, so no store has to be there.
  const module = appModule({ redisUrl: 'redis://127.0.0.1:1', controllers, options });
  const app: INestApplication = await NestFactory.create(module, { logger: false, abortOnError: false });
  // As the compiler plugin of @nestjs/swagger writes it, loaded when `SwaggerModule.loadPluginMetadata` does that.
  Object.assign(LeadsController, { _OPENAPI_METADATA_FACTORY: () => ({ compiled: { type: [Lead] } }) });
  return SwaggerModule.createDocument(app, new DocumentBuilder().build());
}

describe('the OpenAPI document', () => {
  let document: OpenAPIObject;

  beforeAll(async () => {
    document = await documentOf([LeadsController, DescribedController, DecoratedController]);
  });

  const operation = (path: string, method: 'post' | 'get' | 'delete' = 'post') =>
    document.paths[path]![method]!;
  const header = (path: string, method?: 'post' | 'get' | 'delete') =>
    operation(path, method).parameters?.filter((each) => 'in' in each && each.in === 'header');

  it('names the header of an idempotent route, and whether it is required', () => {
    expect(header('/leads')).toEqual([
      {
        in: 'header',
        name: 'Idempotency-Key',
        required: true,
        description: expect.stringContaining('X-Idempotency-Key'),
        schema: { type: 'string', minLength: 1, maxLength: 255 },
      },
    ]);
    expect(header('/leads/{id}', 'delete')).toMatchObject([
      { name: 'X-Request-Key', required: false, schema: { maxLength: 36 } },
    ]);
  });

  it('shows nothing of the claim that a handler asks for', () => {
    expect(operation('/leads').parameters).toHaveLength(1);
  });

  it('names no header where the key comes from elsewhere', () => {
    expect(header('/leads/webhook')).toEqual([]);
  });

  it.each(['400', '409', '422', '503'])('has the problem document of %s', (status) => {
    const { [status]: response } = operation('/leads').responses;
    expect(response).toMatchObject({
      description: expect.stringMatching(/./),
      content: {
        'application/problem+json': { schema: { required: ['type', 'title', 'status', 'detail'] } },
      },
    });
  });

  it.each(['409', '503'])('says that %s tells when to retry', (status) => {
    expect(operation('/leads').responses[status]).toHaveProperty('headers.Retry-After');
  });

  it.each([
    ['/leads', 'post', '201'],
    ['/leads/{id}', 'delete', '204'],
    ['/leads/described', 'post', '201'],
  ] as const)('has the replay header at the response of %s', (path, method, status) => {
    expect(operation(path, method).responses[status]).toHaveProperty('headers.Idempotent-Replayed');
  });

  it('has no replay header at what is never recorded', () => {
    const { 500: theirs, 503: ours } = operation('/leads/described').responses;
    expect(theirs).toEqual({ description: 'Never recorded' });
    expect(ours).not.toHaveProperty('headers.Idempotent-Replayed');
  });

  it('keeps what the application has documented itself', () => {
    const lead = { schema: { $ref: '#/components/schemas/Lead' } };
    const { '201': created, '409': conflict } = operation('/leads/described').responses;
    expect(header('/leads/described')).toMatchObject([
      { name: 'idempotency-key', description: 'Our own words' },
    ]);
    expect(created).toMatchObject({ content: { 'application/json': lead }, headers: { 'X-Version': {} } });
    expect(conflict).toMatchObject({
      description: expect.stringMatching(/^The lead exists\n\n.*still being processed/),
      content: { 'application/json': lead },
    });
  });

  it('keeps what the application has documented of a whole class', () => {
    expect(header('/headed')).toMatchObject([{ name: 'IDEMPOTENCY-KEY', description: 'Our own words' }]);
    expect(operation('/headed').responses['409']).toMatchObject({
      description: expect.stringMatching(/^The lead exists\n\n.*still being processed/),
      content: { 'application/json': { schema: { $ref: '#/components/schemas/Lead' } } },
      headers: { 'Retry-After': {} },
    });
    expect(operation('/headed/own').responses['409']).toMatchObject({
      description: expect.stringMatching(/^The owner differs\n\n.*still being processed/),
    });
    expect(operation('/headed/plain').responses['409']).toMatchObject({ description: 'The lead exists' });
  });

  it('keeps what the compiler plugin has found out', () => {
    expect(operation('/leads/compiled').responses['201']).toMatchObject({
      content: {
        'application/json': { schema: { type: 'array', items: { $ref: '#/components/schemas/Lead' } } },
      },
      headers: { 'Idempotent-Replayed': {} },
    });
  });

  it('is as before for routes that are not protected', () => {
    expect(operation('/leads', 'get')).toMatchObject({
      parameters: [],
      responses: { 200: { description: '' } },
    });
    expect(Object.keys(operation('/leads/plain').responses)).toEqual(['201']);
    expect(Object.keys(operation('/class', 'get').responses)).toEqual(['200']);
  });

  it('describes the routes of a decorated class', () => {
    expect(header('/class')).toHaveLength(1);
    expect(Object.keys(operation('/class').responses)).toEqual(['201', '400', '409', '422', '503']);
  });

  it('is the same for a second application in the process', async () => {
    expect(await documentOf([LeadsController, DescribedController, DecoratedController])).toEqual(document);
  });
});
