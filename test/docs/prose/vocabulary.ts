/** Words that readers stumble over, and what to write instead. One term means one thing: docs/guide/glossary.md. */
const AVOIDED: readonly (readonly [words: RegExp, instead: string])[] = [
  [/\b(nobody|somebody|anybody|everybody)\b/gi, 'name who: no client, another session, every retry'],
  [/\b(whoever|whomever)\b/gi, 'name who does it'],
  [/\b(whatever|whichever)\b/gi, 'say "any", or list the cases'],
  [/\b(by itself|by themselves)\b/gi, 'leave it out, or name what does it'],
  [/(?<!instead )\bof (its|their) own\b/gi, '"its own", or "separate"'],
  [/\bbut for\b/gi, '"except"'],
  [/\bin mid-handler\b/gi, '"in the handler"'],
  [/\bvouch(es|ed|ing)?\b/gi, '"hold", "confirm"'],
  [/\bmend(s|ed|ing)?\b/gi, '"fix", "repair"'],
  [/\b(hears?|heard) of\b/gi, '"know of"'],
  [/\b(tells?|told|telling) (\w+ ){0,2}apart\b/gi, '"distinguish"'],
  [/\bstops? the start\b/gi, '"startup fails"'],
  [/\b(gives?|gave|given|giving) (the|its|a) key back\b/gi, '"release the key"'],
  [/\b(the|its|a) key (is|are|was|were) given back\b/gi, '"the key is released"'],
  [/\bfor ever\b/gi, '"without end"'],
  [/(?<!there )\bis no (?!longer\b|more\b|less\b)/gi, '"is not a"'],
  [/(?<!there )\bare no (?!longer\b|more\b|less\b)/gi, '"are not"'],
  [/(?<!(?:is|are) )\ball the same\b/gi, '"anyway"'],
  [/\bin (its|their) midst\b/gi, '"during it"'],
  [/\bfor want of\b/gi, '"because … is missing"'],
  [/\bshall\b/gi, '"must", "will"'],
  [/\bwedged\b/gi, 'say what a caller sees, and for how long'],
  [/\butili[sz]e[sd]?\b/gi, '"use"'],
  [/\bin order to\b/gi, '"to"'],
  [/\b(simply|obviously|of course|basically)\b/gi, 'leave it out'],
];

/** What a text has of them, each with what to write instead. */
export function avoidedIn(text: string): string[] {
  return AVOIDED.flatMap(([words, instead]) =>
    [...text.matchAll(words)].map(([found]) => `"${found}": ${instead}`),
  );
}
