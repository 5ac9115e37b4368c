/** Characters that move the cursor of a terminal, colour it, turn the text around, or are not seen. */
const UNSEEN = /[\p{C}\p{Default_Ignorable_Code_Point}\u2028\u2029]/gu;

/**
 * A text on one line, for people. Keys, routes and responses come from clients, so what a terminal would obey is escaped.
 * All that is printed or logged of them goes through here.
 */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `\\u{${hexOf(character)}}`);
}

/** As {@link visible}, and line breaks stay. */
export function visibleLines(text: string): string {
  return text.split('\n').map(visible).join('\n');
}

/** JSON of the same value that a terminal shows as it is. @param space as of JSON.stringify */
export function visibleJson(value: unknown, space?: number): string {
  return JSON.stringify(value, undefined, space)
    .split('\n')
    .map((line) => line.replace(UNSEEN, (character) => escapedInJson(character)))
    .join('\n');
}

function escapedInJson(character: string): string {
  return [...Array(character.length).keys()]
    .map((unit) => `\\u${character.charCodeAt(unit).toString(16).padStart(4, '0')}`)
    .join('');
}

function hexOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16);
}
