import { Controller, Post, UploadedFile, UseInterceptors } from '@nestjs/common';
import { FileInterceptor as ExpressFileInterceptor } from '@nestjs/platform-express';
import { FileInterceptor as FastifyFileInterceptor } from '@nestjs/platform-fastify';
import { Idempotent } from '../../../lib';
import { run } from './runs';

interface Uploaded {
  readonly originalname: string;
  readonly size: number;
}

@Idempotent()
@Controller('uploads')
export class ExpressUploadsController {
  @Post()
  @UseInterceptors(ExpressFileInterceptor('file'))
  upload(@UploadedFile() { originalname, size }: Uploaded): unknown {
    return { run: run(), originalname, size };
  }
}

@Idempotent()
@Controller('uploads')
export class FastifyUploadsController {
  @Post()
  @UseInterceptors(FastifyFileInterceptor('file'))
  upload(@UploadedFile() { originalname, size }: Uploaded): unknown {
    return { run: run(), originalname, size };
  }
}
