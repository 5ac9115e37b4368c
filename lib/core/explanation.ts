/** A request, as a client would send it. */
export interface RequestDescription {
  readonly method: string;
  /** Path, with the global prefix, and query. */
  readonly url: string;
  /** One that is undefined is not sent. */
  readonly headers?: Readonly<Record<string, string | undefined>>;
  /** An object goes as JSON, text and bytes as they are. */
  readonly body?: unknown;
}

/** How a request is named, and why. */
export type Explanation =
  | {
      readonly protected: true;
      /** Class and method. */
      readonly handler: string;
      readonly key: string;
      readonly keyFrom: string;
      readonly scope: string;
      /** As the scope spells it; undefined where callers share their keys. */
      readonly principal: string | undefined;
      readonly principalFrom: string;
      /** Names the record in both stores. */
      readonly hash: string;
      readonly fingerprint: string;
      readonly fingerprintFrom: string;
    }
  | { readonly protected: false; readonly why: string };
