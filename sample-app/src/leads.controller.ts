import { Body, Controller, Get, Post, UseGuards } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Idempotent } from 'nestjs-idempotency';
import { Repository } from 'typeorm';
import { ApiTokenGuard } from './api-token.guard';
import { CreateLeadDto } from './create-lead.dto';
import { delay, inTransaction } from './handler-settings';
import { Lead } from './lead.entity';

@Controller('api')
@UseGuards(ApiTokenGuard)
export class LeadsController {
  constructor(@InjectRepository(Lead) private readonly leads: Repository<Lead>) {}

  @Post('webhooks/leados')
  @Idempotent({ required: true, transaction: inTransaction() })
  async receive(@Body() { user_id, name }: CreateLeadDto): Promise<Lead> {
    const lead = await this.leads.save({ userId: user_id, name });
    await delay();
    return lead;
  }

  @Get('leads')
  async list(): Promise<{ count: number; leads: Lead[] }> {
    const [leads, count] = await this.leads.findAndCount({ order: { id: 'DESC' }, take: 100 });
    return { count, leads };
  }
}
