import type { Root as Document } from 'mdast';
import type { Root, Sentence } from 'nlcst';
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
const LONGEST_SENTENCE = 50;

/** In tables as well, which have no sentences for what follows. */
function plainWords() {
  return (tree: Document, file: VFile): void => {
    visit(tree, 'text', (node) => {
      for (const problem of avoidedIn(node.value)) file.message(problem, node);
    });
  };
}

function shortSentences() {
  return (tree: Root, file: VFile): void => {
    visit(tree, 'SentenceNode', (sentence: Sentence) => {
      const words = sentence.children.filter(({ type }) => type === 'WordNode').length;
      if (words > LONGEST_SENTENCE) file.message(`a sentence of ${words} words: make two of it`, sentence);
    });
  };
}

const english = unified()
  .use(retextEnglish)
  .use(retextRepeatedWords)
  .use(retextIndefiniteArticle)
  .use(shortSentences);
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
