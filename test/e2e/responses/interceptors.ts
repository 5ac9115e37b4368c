import {
  Controller,
  Injectable,
  Post,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { map, type Observable } from 'rxjs';
import { Idempotent } from '../../../lib';
import { run, runs } from './runs';

/** An envelope that no second pass would make alike. */
@Injectable()
export class TransformInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((data: unknown) => ({ data, id: randomUUID() })));
  }
}

@Injectable()
export class LoggingInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    runs.interceptor += 1;
    return next.handle();
  }
}

@Idempotent()
@Controller('intercepted')
export class InterceptedController {
  @Post()
  bare(): string {
    return run();
  }

  @Post('route')
  @UseInterceptors(LoggingInterceptor, TransformInterceptor)
  route(): string {
    return run();
  }
}

@Idempotent()
@UseInterceptors(LoggingInterceptor, TransformInterceptor)
@Controller('intercepted-controller')
export class InterceptedAsAWholeController {
  @Post()
  create(): string {
    return run();
  }
}
