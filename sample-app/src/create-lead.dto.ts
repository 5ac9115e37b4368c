import { IsNotEmpty, IsString, MaxLength } from 'class-validator';

export class CreateLeadDto {
  @IsString()
  @IsNotEmpty()
  @MaxLength(200)
  user_id!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(200)
  name!: string;
}
