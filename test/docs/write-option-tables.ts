import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withOptionTables } from './option-tables';

const README = join(__dirname, '../../README.md');
writeFileSync(README, withOptionTables(readFileSync(README, 'utf8')));
