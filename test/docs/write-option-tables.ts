import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PAGE, withOptionTables } from './option-tables';

const page = join(__dirname, '../..', PAGE);
writeFileSync(page, withOptionTables(readFileSync(page, 'utf8')));
