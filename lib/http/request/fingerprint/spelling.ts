import { createHash, hash, type Hash } from 'node:crypto';

/** In characters. What is spelled longer stands in its parent as a digest, so that no value costs its parent more. */
export const LONGEST = 256;

/** How much of a long spelling waits before it is hashed. */
const CHUNK = 16_384;

/** Puts the spelling of one value together from pieces. What is longer than {@link LONGEST} is hashed as it comes. */
export class Spelling {
  private hashed: Hash | undefined;

  constructor(private waiting: string) {}

  add(piece: string): void {
    this.waiting += piece;
    if (this.waiting.length < CHUNK) return;
    this.hashed ??= createHash('sha256');
    this.hashed.update(this.waiting);
    this.waiting = '';
  }

  end(piece: string): string {
    this.waiting += piece;
    if (this.hashed) return `#${this.hashed.update(this.waiting).digest('hex')}`;
    return this.waiting.length > LONGEST ? `#${hash('sha256', this.waiting, 'hex')}` : this.waiting;
  }
}

/** The digest of bytes, behind the name of what they are. */
export function spellBytes(name: string, bytes: Uint8Array): string {
  return `${name}(${hash('sha256', bytes, 'hex')})`;
}

/** A body that no retry can be compared with. It is refused, as two different ones must not be taken for one. */
export class NotComparableError extends TypeError {
  constructor(what: string, cause?: unknown) {
    super(
      `The parsed body holds ${what}, which cannot be compared with the body of a retry. Set the \`fingerprint\` option.`,
      { cause },
    );
    this.name = 'NotComparableError';
  }
}
