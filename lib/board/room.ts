import { visible } from '../core/visible';
import { markup } from './markup';

/** What a text takes on a page: a character can take several bytes there. */
export function bytesOf(text: string): number {
  return Buffer.byteLength(markup`${visible(text)}`.source);
}

/** A text up to where there is no more room on the page, and then how long it is. */
export function fitted(text: string, bytes: number, length = Infinity): string {
  let [left, end] = [bytes, 0];
  for (const character of text) {
    left -= bytesOf(character);
    if (left < 0 || end >= length) return `${text.slice(0, end)}… (${text.length} characters)`;
    end += character.length;
  }
  return text;
}
