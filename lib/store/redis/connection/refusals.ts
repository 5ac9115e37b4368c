import { types } from 'node:util';

/** What a server, or the other end of a TLS handshake, says no with. */
const CERTIFICATE =
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH|EPROTO$)/;
const REPLY = /^[A-Z]{2,}\b/;
const LONGEST = 200;

/** Answers of a server that is there but serves no client. Any other error reply is about one command only. */
const UNUSABLE = /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN)\b/;

/**
 * Why Redis refused, in its own words but without what was sent; undefined if it was not Redis that said no, as when
 * the network is down.
 */
export function refusalOf(error: unknown): string | undefined {
  if (!types.isNativeError(error)) return undefined; // also one of another realm, as Node's own may be
  // A Cluster that no node will serve has the last node's reason.
  const { lastNodeError, code } = error as Error & { lastNodeError?: unknown; code?: unknown };
  if (lastNodeError !== undefined && lastNodeError !== null) return refusalOf(lastNodeError);
  if (typeof code === 'string' && CERTIFICATE.test(code)) return `${code} (${firstLine(error.message)})`;
  // ioredis checks a new connection by a command, and passes on what it was answered.
  const message = error.message.replace(/^Ready check failed: /, '');
  return REPLY.test(message) && (error.name === 'ReplyError' || message !== error.message)
    ? withoutArguments(firstLine(message))
    : undefined;
}

/** False for an error reply that is about one command only. */
export function isFailureOfRedis(error: unknown): error is Error {
  return error instanceof Error && (error.name !== 'ReplyError' || UNUSABLE.test(error.message));
}

/** Redis quotes the arguments of a command that it does not know, and those are keys and bodies. */
function withoutArguments(message: string): string {
  return message.split(', with args')[0] ?? message;
}

function firstLine(message: string): string {
  return (message.split('\n')[0] ?? '').slice(0, LONGEST);
}
