import { Body, Controller, Get, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import type { Request } from 'express';
import { ApiTokenGuard } from '../api-token.guard';
import { deliver, type Delivery } from './leados';
import { StoryServers, type StoryState } from './story-servers';
import { DeliveryDto, WebhookDto } from './webhook.dto';

/** What the page asks for, and what its buttons do. */
@Controller('story')
@UseGuards(ApiTokenGuard)
export class StoryController {
  constructor(private readonly servers: StoryServers) {}

  @Get('state')
  state(): Promise<StoryState> {
    return this.servers.state();
  }

  /** Sends a webhook to this application. */
  @Post('deliveries')
  @HttpCode(200)
  deliver(@Body() { times, ...webhook }: DeliveryDto, @Req() { socket }: Request): Promise<Delivery[]> {
    const { localAddress = '', localPort = 0 } = socket;
    const base = `http://${localAddress.includes(':') ? `[${localAddress}]` : localAddress}:${localPort}`;
    return Promise.all(Array.from({ length: times }, () => deliver(base, webhook)));
  }

  @Post('redis/kill')
  @HttpCode(204)
  killRedis(): Promise<void> {
    return this.servers.killRedis();
  }

  @Post('redis/start')
  @HttpCode(204)
  startRedis(): Promise<void> {
    return this.servers.startRedis();
  }

  @Post('postgres/freeze')
  @HttpCode(204)
  freezePostgres(): Promise<void> {
    return this.servers.freezePostgres();
  }

  @Post('postgres/thaw')
  @HttpCode(204)
  thawPostgres(): Promise<void> {
    return this.servers.thawPostgres();
  }

  /** Sends a webhook to a second instance, which is killed in its handler. */
  @Post('instance/kill')
  @HttpCode(200)
  async killInstance(@Body() webhook: WebhookDto): Promise<Delivery[]> {
    return [await this.servers.killInstance(webhook)];
  }
}
