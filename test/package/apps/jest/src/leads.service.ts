import { Injectable } from '@nestjs/common';

export interface Lead {
  id: number;
  name: string;
}

@Injectable()
export class LeadsService {
  readonly leads: Lead[] = [];

  create(name: string): Lead {
    const lead = { id: this.leads.length + 1, name };
    this.leads.push(lead);
    return lead;
  }
}
