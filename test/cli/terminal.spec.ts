import fc from 'fast-check';
import { PassThrough } from 'node:stream';
import { UsageError } from '../../lib/cli/exit';
import { lines, table } from '../../lib/cli/output';
import { terminal } from '../../lib/cli/terminal';
import { runs } from '../support/arbitraries';

const anyText = fc.string({ unit: 'binary' });
/** All that a terminal obeys, but line breaks. */
const OBEYED = /[^\n\P{C}]|[\u2028\u2029]/u;
/** What a line of progress begins with. */
const ANEW = '\r\u001b[K';

describe('the terminal', () => {
  const terminals = [process.stdout, process.stderr].map((stream) => ({
    stream,
    was: Object.getOwnPropertyDescriptor(stream, 'isTTY'),
  }));
  const actAsTerminal = (is: boolean): void => {
    for (const { stream } of terminals)
      Object.defineProperty(stream, 'isTTY', { value: is, configurable: true });
  };
  let written: (string | Uint8Array)[];
  beforeEach(() => {
    written = [];
    for (const { stream } of terminals)
      jest.spyOn(stream, 'write').mockImplementation((chunk) => {
        written.push(chunk);
        return true;
      });
  });
  afterEach(() => {
    jest.restoreAllMocks();
    for (const { stream, was } of terminals)
      if (was) Object.defineProperty(stream, 'isTTY', was);
      else Reflect.deleteProperty(stream, 'isTTY');
  });

  it('is shown nothing that it would obey, of anything that a client has sent', () => {
    actAsTerminal(true);
    fc.assert(
      fc.property(anyText, (text) => {
        written = [];
        terminal.print(text);
        terminal.print(table(['ROUTE', 'KEY'], [[text, 'key']]));
        terminal.print(lines({ key: text, scope: [text] }));
        terminal.printJson({ [text]: text });
        terminal.printBytes(Buffer.from(text));
        terminal.note(text);
        terminal.progress(text);
        expect(written).toHaveLength(7);
        for (const chunk of written) expect(String(chunk).replace(ANEW, '')).not.toMatch(OBEYED);
      }),
      runs(300),
    );
  });

  describe('that a person sits at', () => {
    const was = Object.getOwnPropertyDescriptor(process, 'stdin');
    let keyboard: PassThrough;
    beforeEach(() => {
      keyboard = Object.assign(new PassThrough(), { isTTY: true });
      Object.defineProperty(process, 'stdin', { value: keyboard, configurable: true });
    });
    afterEach(() => Object.defineProperty(process, 'stdin', was!));
    const asked = (question = 'Forget it?'): Promise<void> => terminal.confirm(question, undefined);

    it('asks about a record without obeying what its client has sent', async () => {
      const answered = asked('Forget POST /\u001b[2J\u202e?');
      keyboard.write('n\n');
      await expect(answered).rejects.toThrow('Nothing was changed.');
      expect(written.join('')).toContain('Forget POST /\\u{1b}[2J\\u{202e}? [y/N] ');
    });

    it('goes on after a yes alone', async () => {
      const answered = asked();
      keyboard.write('yes\n');
      await expect(answered).resolves.toBeUndefined();
    });

    it.each([
      ['Ctrl+C', '\u0003'],
      ['Ctrl+D', '\u0004'],
      ['the end of its input', undefined],
    ])('takes %s for a no', async (_, typed) => {
      actAsTerminal(true);
      const answered = asked();
      if (typed === undefined) keyboard.end();
      else keyboard.write(typed);
      await expect(answered).rejects.toThrow(UsageError);
    });
  });

  it('keeps the columns of a table, and one line for each row, whatever is in it', () => {
    const [head = '', first = '', second = ''] = table(
      ['ROUTE', 'KEY'],
      [
        ['a\u001b[31m\nb', 'one'],
        ['c', 'two'],
      ],
    ).split('\n');
    expect([first.indexOf('one'), second.indexOf('two')]).toEqual(Array(2).fill(head.indexOf('KEY')));
  });

  it('gets bytes as they are, where it is a file or a pipe', () => {
    actAsTerminal(false);
    const bytes = Buffer.from([0x1b, 0x5b, 0xff, 0x00]);
    terminal.printBytes(bytes);
    expect(written).toEqual([bytes]);
  });

  it('refuses to ask where there is none', async () => {
    await expect(terminal.confirm('Delete all?', false)).rejects.toThrow('Pass --yes');
    await expect(terminal.confirm('Delete all?', true)).resolves.toBeUndefined();
  });
});
