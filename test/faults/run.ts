import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomRun } from './random/run';

/*
 * npm run test:faults                              every named scenario
 * npm run test:faults -- redis                     those whose file is named so
 * npm run test:faults -- --minutes 10              faults at random
 * npm run test:faults -- --minutes 10 --seed 42    the same ones again
 *                        --quiet                   without a line for each fault
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, seed: { type: 'string' }, quiet: { type: 'boolean' } },
});

function scenarios(): number {
  const jest = require.resolve('jest/bin/jest');
  const config = join(__dirname, 'jest.config.js');
  return spawnSync(process.execPath, [jest, '-c', config, ...positionals], { stdio: 'inherit' }).status ?? 1;
}

async function atRandom(): Promise<number> {
  const minutes = positive('minutes', values.minutes ?? '1');
  const seed = values.seed === undefined ? randomInt(2 ** 31) : positive('seed', values.seed);
  console.log(`Faults at random for ${minutes} minutes, --seed ${seed}`);
  const schedule: string[] = [];
  const tell = (line: string): void => {
    schedule.push(line);
    if (!values.quiet) console.log(line);
  };
  const { violations, losses, effects, ...counts } = await randomRun({ minutes, seed, tell });
  const told = (figures: object): string =>
    Object.entries(figures).map(([what, count]) => `${count} ${what}`).join(', '); // prettier-ignore
  console.log(told({ ...counts, losses: losses.length, violations: violations.length }));
  console.log(`In transactions: ${told(effects)}`);
  for (const each of losses) console.log('Lost, as README says it can be:', JSON.stringify(each));
  if (values.quiet && violations.length > 0) console.error(schedule.join('\n'));
  for (const each of violations) console.error(JSON.stringify(each, null, 2));
  return violations.length === 0 ? 0 : 1;
}

function positive(name: string, text: string): number {
  const number = Number(text);
  if (number > 0) return number;
  console.error(`--${name} has to be a number above 0, not ${text}`);
  process.exit(2);
}

async function main(): Promise<void> {
  process.exitCode =
    values.minutes === undefined && values.seed === undefined ? scenarios() : await atRandom();
}

void main();
