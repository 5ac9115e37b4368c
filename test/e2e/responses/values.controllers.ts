import {
  Controller,
  Delete,
  Get,
  Head,
  Header,
  HttpCode,
  Patch,
  Post,
  Put,
  Redirect,
  Render,
  Req,
  Scope,
} from '@nestjs/common';
import { Exclude } from 'class-transformer';
import { from, of } from 'rxjs';
import { setImmediate as turn } from 'node:timers/promises';
import { Idempotent } from '../../../lib';
import { run } from './runs';

export class Account {
  readonly name = run();
  @Exclude() readonly password = 'never to be sent';
}

@Idempotent()
@Controller('values')
export class ValuesController {
  @Post('object')
  object(): unknown {
    return { run: run(), nested: { list: [1, null, 'ü'] } };
  }

  @Post('promise')
  async promise(): Promise<unknown> {
    await turn();
    return { run: run() };
  }

  @Post('observable')
  observable() {
    return of({ run: run() });
  }

  @Post('observable-of-many')
  observableOfMany() {
    return from(['first', 'second', run()]);
  }

  @Post('string')
  string(): string {
    return `ü ${run()}`;
  }

  @Post('buffer')
  buffer(): Buffer {
    return Buffer.concat([Buffer.from([0, 255, 254, 13, 10]), Buffer.from(run())]);
  }

  @Post('number')
  number(): number {
    run();
    return Math.random();
  }

  @Post('boolean')
  boolean(): boolean {
    run();
    return false;
  }

  @Post('null')
  null(): null {
    run();
    return null;
  }

  @Post('void')
  void(): void {
    run();
  }

  @Delete('void')
  @HttpCode(204)
  noContent(): void {
    run();
  }

  @Post('account')
  account(): Account {
    return new Account();
  }

  @Post('accounts')
  accounts() {
    return of([new Account(), new Account()]);
  }

  @Post('header')
  @Header('X-Run', 'constant')
  @Header('Cache-Control', 'no-store')
  header(): string {
    return run();
  }

  @Post('code')
  @HttpCode(202)
  code(): unknown {
    return { run: run() };
  }

  @Post('redirect')
  @Redirect('/elsewhere', 303)
  redirect(): void {
    run();
  }

  @Post('redirect-dynamic')
  @Redirect('/elsewhere', 302)
  redirectDynamic(): unknown {
    return { url: `/runs/${encodeURIComponent(run())}`, statusCode: 307 };
  }

  @Post('render')
  @Render('run.ejs')
  render(): unknown {
    return { run: run() };
  }

  @Put('put')
  put(): unknown {
    return { run: run() };
  }

  @Patch('patch')
  patch(): unknown {
    return { run: run() };
  }

  @Delete('delete')
  delete(): unknown {
    return { run: run() };
  }

  @Head('head')
  @Header('X-Run', 'constant')
  @Idempotent()
  head(): unknown {
    return { run: run() };
  }

  @Get('get')
  @Idempotent()
  get(): unknown {
    return { run: run() };
  }

  @Post('raw-body')
  rawBody(@Req() request: { rawBody?: Buffer }): unknown {
    return { run: run(), raw: request.rawBody?.toString() };
  }

  @Post('too-large')
  @Idempotent({ maxBodySize: 100 })
  tooLarge(): string {
    return run().repeat(10);
  }
}

@Idempotent()
@Controller({ path: 'request-scoped', scope: Scope.REQUEST })
export class RequestScopedController {
  private readonly made = new Date();

  @Post()
  create(): unknown {
    return { run: run(), made: this.made };
  }
}

@Idempotent()
@Controller('versions')
export class VersionedController {
  @Post()
  create(): unknown {
    return { run: run() };
  }
}
