import { call, type Answer } from './http';

/** Looks at a board as a browser without scripts does: it keeps the cookie, and sends the forms of pages. */
export class BoardVisitor {
  private cookie: string | undefined;

  /** @param url of the board @param headers of each request, such as credentials */
  constructor(
    private readonly url: string,
    private readonly headers: Record<string, string> = {},
  ) {}

  /** @param query with its question mark, such as the target of a link */
  async get(query = ''): Promise<Answer> {
    const answer = await call(this.url + query, {
      method: 'GET',
      headers: { ...this.headers, ...(this.cookie === undefined ? {} : { cookie: this.cookie }) },
    });
    const [set] = answer.headers['set-cookie'] ?? [];
    if (set) [this.cookie] = set.split(';');
    return answer;
  }

  /** Opens a page and sends its form for this action. */
  async submit(query: string, action: string, fields: Record<string, string>): Promise<Answer> {
    const token = tokenIn(await this.get(query), action);
    return this.post(query, { token, action, ...fields });
  }

  /** @param headers beside or instead of those that a browser sends with a form of the board */
  post(query: string, fields: Record<string, string>, headers: Record<string, string> = {}): Promise<Answer> {
    return call(this.url + query, {
      body: new URLSearchParams(fields).toString(),
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        origin: new URL(this.url).origin,
        ...this.headers,
        ...(this.cookie === undefined ? {} : { cookie: this.cookie }),
        ...headers,
      },
    });
  }
}

/** Of the form for this action. @throws if the page has none */
export function tokenIn({ text }: Answer, action: string): string {
  const forms = text.split('<form ').filter((form) => form.includes(`name="action" value="${action}"`));
  const [, token] = /name="token" value="([\w-]{43})"/.exec(forms[0] ?? '') ?? [];
  if (!token) throw new Error(`the page has no form to ${action}:\n${text}`);
  return token;
}

/** What the links of a page lead to. */
export function linksIn({ text }: Answer): string[] {
  return [...text.matchAll(/href="([^"]+)"/g)].map(([, target = '']) => target.replaceAll('&#38;', '&'));
}
