import { Controller, UseGuards } from '@nestjs/common';
import { PrometheusController } from '@willsoto/nestjs-prometheus';
import { ApiTokenGuard } from './api-token.guard';
import { isLocal } from './listen-address';

/** `GET /metrics`: where others than this machine can reach the sample, it asks for the token. */
@Controller()
@UseGuards(...(isLocal() ? [] : [ApiTokenGuard]))
export class MetricsController extends PrometheusController {}
