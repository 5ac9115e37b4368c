import { Body, Controller, Post, UseGuards } from '@nestjs/common';
import { byUser, Idempotent } from 'nestjs-idempotency';
import { AuthGuard, type AuthedRequest } from './auth.guard';
import { LeadsService, type Lead } from './leads.service';

@Controller('leads')
@UseGuards(AuthGuard)
export class LeadsController {
  constructor(private readonly leads: LeadsService) {}

  @Post()
  @Idempotent({
    required: true,
    transaction: true,
    scope: byUser((request: AuthedRequest) => [
      request.user.tenant,
      request.user.sub,
    ]),
  })
  create(@Body('name') name: string): Lead {
    return this.leads.create(name);
  }
}
