import {
  Body,
  ConflictException,
  Controller,
  HttpCode,
  Param,
  Post,
  Res,
  Scope,
  StreamableFile,
  UseGuards,
} from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import {
  Idempotent,
  IdempotencyClaim,
  IdempotencyService,
  type IdempotencyContext,
} from 'nestjs-idempotency';
import { randomBytes, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { Repository } from 'typeorm';
import { Arrivals, CallerGuard } from './arrivals.js';
import { Lead } from './lead.js';

interface LeadRequest {
  readonly name: string;
  /** The handler ends when so many requests with its key have come. */
  readonly together?: number;
  /** The handler ends when the application is told to end. */
  readonly untilShutdown?: boolean;
}

/** What Express and Fastify have in common. */
interface PlatformReply {
  status(code: number): this;
  header(name: string, value: string): this;
  send(body: string): unknown;
}

/** Each answer holds something that a second execution would answer differently. */
@Controller()
@UseGuards(CallerGuard)
export class LeadsController {
  constructor(
    @InjectRepository(Lead) private readonly leads: Repository<Lead>,
    private readonly arrivals: Arrivals,
    private readonly idempotency: IdempotencyService,
  ) {}

  @Post('leads')
  @Idempotent({ required: true })
  async create(
    @Body() { name, together, untilShutdown }: LeadRequest,
    @IdempotencyClaim() claim: IdempotencyContext,
  ): Promise<object> {
    const lead = await this.leads.save({ name });
    if (together) await this.arrivals.reach(claim.key, together);
    if (untilShutdown) await this.arrivals.shutdown();
    return { id: lead.id, name, attempt: claim.attempt };
  }

  @Post('file')
  @Idempotent()
  file(): StreamableFile {
    return new StreamableFile(Readable.from([randomBytes(70_000), randomBytes(70_000)]), {
      type: 'application/octet-stream',
      disposition: 'attachment; filename="lead.bin"',
    });
  }

  @Post('own-response')
  @Idempotent()
  ownResponse(@Res() reply: PlatformReply): void {
    reply.status(202).header('X-Lead', randomUUID()).send(`accepted ${randomUUID()}`);
  }

  @Post('refused')
  @Idempotent()
  refused(): never {
    throw new ConflictException({ message: 'This lead is known.', id: randomUUID() });
  }

  @Post('jobs/:id')
  @HttpCode(200)
  async job(@Param('id') id: string): Promise<object> {
    return { result: await this.idempotency.execute(id, () => randomUUID(), { scope: 'jobs' }) };
  }
}

/** Nest makes one for each request. */
@Controller({ path: 'scoped', scope: Scope.REQUEST })
@UseGuards(CallerGuard)
export class ScopedController {
  @Post()
  @Idempotent({ required: true })
  create(@Body() { name }: LeadRequest, @IdempotencyClaim() { attempt }: IdempotencyContext): object {
    return { id: randomUUID(), name, attempt };
  }
}
