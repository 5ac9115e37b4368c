const DEFAULT_PORT = 3000;

/** Metrics and health ask for no token, so nothing outside this machine gets to them by default. */
const DEFAULT_HOST = '127.0.0.1';

/** HOST: the address to listen on. */
export function host(): string {
  const { HOST = '' } = process.env;
  return HOST === '' ? DEFAULT_HOST : HOST;
}

/** Whether only programs on this machine can reach the sample. */
export function isLocal(): boolean {
  return /^(127(\.\d+){3}|::1|localhost)$/.test(host());
}

/**
 * PORT: the port to listen on, 0 for a free one.
 * @throws Error if it is no port
 */
export function port(): number {
  const { PORT = '' } = process.env;
  const number = PORT === '' ? DEFAULT_PORT : Number(PORT);
  if (!Number.isInteger(number) || number < 0 || number > 65_535)
    throw new Error(`PORT is "${PORT}", but must be a number from 0 to 65535`);
  return number;
}
