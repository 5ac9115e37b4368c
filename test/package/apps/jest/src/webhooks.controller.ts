import { Body, Controller, Post } from '@nestjs/common';
import { fromBody, fromHeader, Idempotent, rawBody } from 'nestjs-idempotency';
import { LeadsService, type Lead } from './leads.service';

@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly leads: LeadsService) {}

  @Post('stripe')
  @Idempotent({
    key: fromBody('id'),
    required: true,
    fingerprint: rawBody(),
    onOrphan: 'reject',
    scope: () => 'stripe',
  })
  stripe(@Body('name') name: string): Lead {
    return this.leads.create(name);
  }

  @Post('github')
  @Idempotent({ key: fromHeader('X-GitHub-Delivery'), required: true })
  github(@Body('name') name: string): Lead {
    return this.leads.create(name);
  }

  @Post('forgotten')
  forgotten(@Body('name') name: string): Lead {
    return this.leads.create(name);
  }
}
