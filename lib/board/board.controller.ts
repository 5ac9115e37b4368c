import {
  Controller,
  Get,
  Inject,
  Post,
  Req,
  Res,
  UseGuards,
  VERSION_NEUTRAL,
  type Type,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { rawRequest, type PlatformRequest } from '../http/platform';
import { AccessGuard, visitOf, type Visit } from './access.guard';
import { Board, refusal, type Answer } from './board';
import type { BoardPlace } from './board.options';
import { formOf } from './form';
import { cookieOf, isTokenOf, newToken, tokenOf } from './form-token';
import { isForeignRead, isFromOwnPage } from './own-origin';
import { PAGE_HEADERS } from './page';

/** Where `@nestjs/swagger` looks for controllers that an API's documentation leaves out. */
const SWAGGER_EXCLUDED = 'swagger/apiExcludeController';

/**
 * The board has one path. It takes request and response as they are, so that no pipe of the application changes what
 * was asked, and no interceptor wraps what is answered.
 */
class BoardController {
  constructor(
    @Inject(Board) private readonly board: Board,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  @Get()
  async look(@Req() request: PlatformRequest, @Res() response: object): Promise<void> {
    await this.answer(request, response, async (visit, token) => {
      if (isForeignRead(rawRequest(request).headers))
        return refusal('Refused', 'A page of another site asked for this one.', 403);
      return this.board.look(queryOf(request), visit.access === 'full' ? token : undefined);
    });
  }

  @Post()
  async change(@Req() request: PlatformRequest, @Res() response: object): Promise<void> {
    await this.answer(request, response, async (visit, token) => {
      if (visit.access !== 'full') return refusal('Refused', 'You may look, and not change anything.', 403);
      const raw = rawRequest(request);
      if (!isFromOwnPage(raw.headers))
        return refusal(
          'Refused',
          'The form does not come from this board. A proxy has to pass Host on.',
          403,
        );
      const form = await formOf(request);
      if (form === 400)
        return refusal(
          'Not read',
          'Middleware of the application has read the form, and kept nothing of it.',
          400,
        );
      if (form === 413)
        return refusal('Too large', 'The form is larger than 1 MiB. Use the command line.', 413);
      if (form === 415) return refusal('Not a form', 'The board takes its own forms only.', 415);
      if (!isTokenOf(raw, form.get('token')))
        return refusal('Refused', 'The form has expired. Go back, reload the page, and send it again.', 403);
      return this.board.change(queryOf(request), form, visit, token);
    });
  }

  private async answer(
    request: PlatformRequest,
    response: object,
    work: (visit: Visit, token: string) => Promise<Answer>,
  ): Promise<void> {
    const { httpAdapter } = this.host;
    const raw = rawRequest(request);
    const token = tokenOf(raw) ?? newToken();
    const visit = visitOf(raw);
    const { status, body, location } = visit
      ? await work(visit, token)
      : refusal('Refused', 'The guard of the board was not asked.', 403);
    for (const [name, value] of Object.entries(PAGE_HEADERS)) httpAdapter.setHeader(response, name, value);
    if (location !== undefined) httpAdapter.setHeader(response, 'Location', location);
    if (visit?.access === 'full' && tokenOf(raw) === undefined)
      httpAdapter.appendHeader(response, 'Set-Cookie', cookieOf(token, raw));
    await httpAdapter.reply(response, body, status);
  }
}

/** A class for each board, as its path and guards are metadata. */
export function boardController({ path = '/idempotency', guards = [] }: BoardPlace): Type {
  class IdempotencyBoardController extends BoardController {}
  Controller({ path, version: VERSION_NEUTRAL })(IdempotencyBoardController);
  UseGuards(...guards, AccessGuard)(IdempotencyBoardController);
  Reflect.defineMetadata(SWAGGER_EXCLUDED, [true], IdempotencyBoardController);
  return IdempotencyBoardController;
}

/** Of the URL itself: applications set how their framework reads it. */
function queryOf(request: PlatformRequest): URLSearchParams {
  const { url = '' } = rawRequest(request);
  return new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?')) : '');
}
