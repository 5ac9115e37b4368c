import { IsInt, IsNotEmpty, IsString, Max, MaxLength, Min } from 'class-validator';
import { CreateLeadDto } from '../create-lead.dto';

/** A webhook that LeadOS sends: its body, and the key that stays the same when it is sent again. */
export class WebhookDto extends CreateLeadDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(200)
  key!: string;
}

export class DeliveryDto extends WebhookDto {
  /** How many times, all at once. */
  @IsInt()
  @Min(1)
  @Max(10)
  times!: number;
}
