import {
  BadRequestException,
  Catch,
  ConflictException,
  Controller,
  HttpException,
  Injectable,
  Post,
  Res,
  UseFilters,
  type ArgumentsHost,
  type ExceptionFilter,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Idempotent } from '../../../lib';
import { raw, run, type AnyResponse } from './runs';

/** What many applications have: the moment of the error in its body. */
@Injectable()
@Catch()
export class TimestampFilter implements ExceptionFilter {
  constructor(private readonly host: HttpAdapterHost) {}

  catch(exception: Error, host: ArgumentsHost): void {
    const status = exception instanceof HttpException ? exception.getStatus() : 500;
    const body = { error: exception.message, timestamp: new Date().toISOString() };
    this.host.httpAdapter.reply(host.switchToHttp().getResponse(), body, status);
  }
}

@Idempotent()
@Controller('responses')
export class ResponsesController {
  @Post('res')
  res(@Res() response: AnyResponse): void {
    const res = raw(response);
    res.writeHead(207, 'Quite Multi', { 'X-Run': ['a', 'b'], 'Content-Type': 'text/plain' });
    res.write('first, ');
    res.end(run());
  }

  @Post('res-send')
  resSend(@Res() response: { status(code: number): { send(body: unknown): void } }): void {
    response.status(202).send({ run: run() });
  }

  @Post('send-file')
  sendFile(@Res() response: { sendFile(path: string): void }): void {
    run();
    response.sendFile(join(__dirname, 'run.ejs'));
  }

  @Post('hijack')
  hijack(@Res() reply: { hijack(): void; raw: ServerResponse }): void {
    reply.hijack();
    reply.raw.setHeader('Content-Type', 'text/plain');
    reply.raw.end(run());
  }

  @Post('flush')
  flush(@Res() response: ServerResponse & { flush(): void }): void {
    response.setHeader('Content-Type', 'text/plain');
    response.write('first, ');
    response.flush();
    response.end(run());
  }

  @Post('passthrough')
  passthrough(@Res({ passthrough: true }) response: AnyResponse): unknown {
    raw(response).setHeader('X-Run', run());
    return { passed: 'through' };
  }

  @Post('cookies')
  cookies(@Res({ passthrough: true }) response: AnyResponse): unknown {
    raw(response).setHeader('Set-Cookie', ['session=secret; HttpOnly', 'theme=dark']);
    raw(response).setHeader('WWW-Authenticate', 'Basic');
    return { run: run() };
  }

  @Post('conflict')
  conflict(): never {
    throw new ConflictException(run());
  }

  @Post('filtered')
  @UseFilters(TimestampFilter)
  filtered(): never {
    throw new ConflictException(run());
  }

  @Post('filtered-error')
  @UseFilters(TimestampFilter)
  @Idempotent({ record: () => true })
  filteredError(): never {
    throw new Error(run());
  }

  @Post('bad-request')
  badRequest(): never {
    throw new BadRequestException(run());
  }

  @Post('error-half-way')
  errorHalfWay(@Res() response: AnyResponse): never {
    raw(response).write(run());
    throw new Error('after the first bytes');
  }

  @Post('error')
  error(): never {
    throw new Error(run());
  }

  @Post('plain-error-recorded')
  @Idempotent({ record: () => true })
  plainErrorRecorded(): never {
    throw new Error(run());
  }

  @Post('error-recorded')
  @Idempotent({ record: () => true })
  errorRecorded(): never {
    throw new HttpException(run(), 500);
  }
}
