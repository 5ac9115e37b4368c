import type { Root as Document } from 'mdast';
import type { Root, Sentence, SentenceContent } from 'nlcst';
import remarkGfm from 'remark-gfm';
import remarkParse from 'remark-parse';
import remarkRetext from 'remark-retext';
import remarkStringify from 'remark-stringify';
import retextEnglish from 'retext-english';
import retextIndefiniteArticle from 'retext-indefinite-article';
import retextRepeatedWords from 'retext-repeated-words';
import { unified, type Processor } from 'unified';
import { visit } from 'unist-util-visit';
import type { VFile } from 'vfile';
import { avoidedIn } from './vocabulary';

/** In words. Most sentences should have less than 25. */
const LONGEST_SENTENCE = 30;

/** How a sentence should not open, and what to write instead. */
const OPENINGS: readonly (readonly [opening: RegExp, instead: string])[] = [
  [/^Where\b[^?]*,/, '"If", unless it names a place'],
  [
    /^(?!Speed|Seed|Need|Feed)(\w+ed|Found|Held|Kept|Left|Made|Seen|Sent) (is|are|was|were)\b/,
    'begin with the subject',
  ],
];

/** In tables as well, which have no sentences for what follows. */
function plainWords() {
  return (tree: Document, file: VFile): void => {
    visit(tree, 'text', (node) => {
      for (const problem of avoidedIn(node.value)) file.message(problem, node);
    });
  };
}

function plainSentences() {
  return (tree: Root, file: VFile): void => {
    visit(tree, 'SentenceNode', (node: Sentence) => {
      for (const sentence of sentencesOf(node, file)) {
        const words = sentence.filter(({ type }) => type === 'WordNode').length;
        if (words > LONGEST_SENTENCE)
          file.message(`a sentence of ${words} words: make two of it`, sentence[0]);
        const text = textOf(sentence, file);
        for (const [opening, instead] of OPENINGS)
          if (opening.test(text)) file.message(`"${text.slice(0, 30)}…": ${instead}`, sentence[0]);
      }
    });
  };
}

/** The parser takes the full stop before code, or after a number, for a part of the word. */
function sentencesOf({ children }: Sentence, file: VFile): readonly (readonly SentenceContent[])[] {
  const ends = children.flatMap((node, index) => {
    const next = children[index + 2];
    const endsHere = next && textOf([node], file).endsWith('.') && /^[`A-Z]/.test(textOf([next], file));
    return endsHere ? [index + 2] : [];
  });
  return [0, ...ends].map((start, index) => children.slice(start, ends[index]));
}

function textOf(sentence: readonly SentenceContent[], file: VFile): string {
  const start = sentence[0]?.position?.start.offset;
  return String(file).slice(start, sentence.at(-1)?.position?.end.offset);
}

const english = unified()
  .use(retextEnglish)
  .use(retextRepeatedWords)
  .use(retextIndefiniteArticle)
  .use(plainSentences);
const markdown = unified()
  .use(remarkParse)
  .use(remarkGfm)
  .use(plainWords)
  .use(remarkRetext, english as unknown as Processor<Root>)
  .use(remarkStringify);

/** The titles of tests are what they are. */
const withoutTitles = (text: string): string => text.replaceAll(/(`test\/[^`]+` )“[^”]+”/g, '$1');

/** What is wrong with the prose of a document, as `line: problem`. */
export async function problemsInMarkdown(text: string): Promise<string[]> {
  const { messages } = await markdown.process(withoutTitles(text));
  return messages.map(({ line, reason }) => `${line ?? 1}: ${reason}`);
}
