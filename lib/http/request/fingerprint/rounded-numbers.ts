/** Two decimals of so many digits are two doubles, unless they are larger or smaller than any normal one. */
const ALWAYS_EXACT = 15;
const SMALLEST_NORMAL = 2 ** -1022;

/** Whether a text may hold a number that a double does not: at all other texts one look is enough. */
const SUSPICIOUS = /[\d.]{16}|\de[+-]?\d{3}/i;

const QUOTE = 34;
const BACKSLASH = 92;
const MINUS = 45;

/**
 * Numbers of a JSON text that `JSON.parse` rounds, as they are spelled and in their order: `9007199254740993` and
 * `9007199254740992` are one number to it, and two to a parser that makes bigints of them.
 */
export function roundedNumbers(json: string): string[] {
  const rounded: string[] = [];
  if (!SUSPICIOUS.test(json)) return rounded;
  for (let at = 0; at < json.length; at += 1) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) at = endOfText(json, at);
    else if (isDigit(code) || code === MINUS) {
      const start = at;
      while (isOfNumber(json.charCodeAt(at + 1))) at += 1;
      const number = json.slice(start, at + 1);
      if (isRounded(number)) rounded.push(number);
    }
  }
  return rounded;
}

function isRounded(number: string): boolean {
  const value = Number(number);
  if (value === 0) return /^-?[0.]*[1-9]/.test(number);
  const isNormal = Number.isFinite(value) && Math.abs(value) >= SMALLEST_NORMAL;
  return !(isNormal && number.length <= ALWAYS_EXACT) && String(value) !== number;
}

/** The index of the quotation mark that ends the text. */
function endOfText(json: string, start: number): number {
  let at = start + 1;
  for (let code = json.charCodeAt(at); at < json.length && code !== QUOTE; code = json.charCodeAt(at))
    at += code === BACKSLASH ? 2 : 1;
  return at;
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57;
}

/** Digits, `+`, `-`, `.`, `E` and `e`: no number of JSON has another one. */
function isOfNumber(code: number): boolean {
  return isDigit(code) || code === 43 || code === MINUS || code === 46 || code === 69 || code === 101;
}
