import { Column, Entity, PrimaryGeneratedColumn, type MigrationInterface, type QueryRunner } from 'typeorm';

@Entity('leads')
export class Lead {
  @PrimaryGeneratedColumn()
  id!: number;

  @Column({ type: 'text' })
  name!: string;
}

export class CreateLeads1764000000020 implements MigrationInterface {
  name = 'CreateLeads1764000000020';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE TABLE leads (id serial PRIMARY KEY, name text NOT NULL)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE leads');
  }
}
