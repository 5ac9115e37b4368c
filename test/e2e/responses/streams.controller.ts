import { Controller, Post, Res, StreamableFile } from '@nestjs/common';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Idempotent } from '../../../lib';
import { raw, run, type AnyResponse } from './runs';

/** A source of several chunks, none of which is ready at once. */
function source(chunks = 5, size = 20): Readable {
  const text = run();
  return Readable.from(
    (async function* () {
      for (let i = 0; i < chunks; i++) {
        await new Promise(setImmediate);
        yield Buffer.from(`${i} ${text}\n`.padEnd(size, '.'));
      }
    })(),
  );
}

/** One that fails half-way. */
function failing(size = 0): Readable {
  const text = run().padEnd(size, '.');
  return Readable.from(
    (async function* () {
      yield Buffer.from(text);
      await new Promise(setImmediate);
      throw new Error('the source failed half-way');
    })(),
  );
}

/** Past the high-water mark of a response (16 KiB) several times over. */
const LARGE = { chunks: 20, size: 8 * 1024 };

@Idempotent()
@Controller('streams')
export class StreamsController {
  @Post('file')
  file(): StreamableFile {
    return new StreamableFile(Buffer.from(run()), { type: 'text/csv', disposition: 'attachment' });
  }

  @Post('file-from-stream')
  fileFromStream(): StreamableFile {
    return new StreamableFile(source(), { type: 'text/plain' });
  }

  @Post('generator')
  async *generator(): AsyncGenerator {
    yield { run: run() };
    await new Promise(setImmediate);
    yield { last: true };
  }

  @Post('web-stream')
  webStream(): unknown {
    return Readable.toWeb(source());
  }

  @Post('web-response')
  webResponse(): Response {
    return new Response(run(), { status: 202, headers: { 'X-Run': 'web', 'Content-Type': 'text/plain' } });
  }

  @Post('pipe')
  pipe(@Res() response: AnyResponse): void {
    source().pipe(raw(response));
  }

  @Post('pipeline')
  async pipeline(@Res() response: AnyResponse): Promise<void> {
    await pipeline(source(LARGE.chunks, LARGE.size), raw(response));
  }

  @Post('reply')
  reply(@Res() reply: { send(stream: Readable): void }): void {
    reply.send(source());
  }

  @Post('file-too-large')
  @Idempotent({ maxBodySize: 50_000 })
  fileTooLarge(): StreamableFile {
    return new StreamableFile(source(LARGE.chunks, LARGE.size));
  }

  @Post('pipeline-too-large')
  @Idempotent({ maxBodySize: 50_000 })
  async pipelineTooLarge(@Res() response: AnyResponse): Promise<void> {
    await pipeline(source(LARGE.chunks, LARGE.size), raw(response));
  }

  @Post('file-fails')
  fileFails(): StreamableFile {
    return new StreamableFile(failing());
  }

  @Post('file-fails-recorded')
  @Idempotent({ record: () => true })
  fileFailsRecorded(): StreamableFile {
    return new StreamableFile(failing());
  }

  @Post('file-too-large-fails')
  @Idempotent({ maxBodySize: 100 })
  fileTooLargeFails(): StreamableFile {
    return new StreamableFile(failing(200));
  }

  @Post('pipeline-fails')
  async pipelineFails(@Res() response: AnyResponse): Promise<void> {
    await pipeline(failing(), raw(response)).catch(() => undefined);
  }
}
