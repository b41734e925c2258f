/**
 * As much of HTTP/1.1 as a scraper, a health check and `curl` need: one GET or HEAD on a connection,
 * which is closed behind the answer. Whatever body a request has is not looked at. Pure functions:
 * nothing here knows sockets.
 */

/** Request line and headers, bytes. */
export const HEAD_LENGTH_MAX = 8 * 1024;

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD';
  /** Without the query. */
  readonly path: string;
};

export type HttpAnswer = {
  readonly status: keyof typeof REASONS;
  readonly body: string;
  /** Content type; without it plain text. */
  readonly type?: string;
};

const REASONS = {
  200: 'OK',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
} as const;

const TEXT = 'text/plain; charset=utf-8';
const REQUEST_LINE = /^([A-Z]{1,20}) (\S+) HTTP\/1\.[01]$/;
const HEADER_LINE = /^[!#$%&'*+.^_`|~\w-]+:[^\0\r]*$/;

/**
 * The request at the begin of these bytes, the answer to one that is refused, or `more` if its head is
 * not whole.
 */
export function parseRequest(bytes: Uint8Array): HttpRequest | HttpAnswer | 'more' {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, HEAD_LENGTH_MAX + 1));
  const [head, ...rest] = text.split(/\r?\n\r?\n/, 2);
  const lines = head.split(/\r?\n/);
  const [, method, target] = REQUEST_LINE.exec(lines[0]) ?? [];
  const lineIsWhole = lines.length > 1 || rest.length > 0;
  if (lineIsWhole && method === undefined) return refused(400, 'this is not HTTP/1.1');
  if (head.length > HEAD_LENGTH_MAX || (rest.length === 0 && bytes.byteLength > HEAD_LENGTH_MAX)) {
    return refused(431, `the head of a request has at most ${HEAD_LENGTH_MAX} bytes`);
  }
  if (rest.length === 0) return 'more';
  if (!lines.slice(1).every((line) => HEADER_LINE.test(line))) {
    return refused(400, 'a line of the head is no header');
  }
  if (method !== 'GET' && method !== 'HEAD') return refused(405, 'only GET and HEAD are answered');
  const path = target.replace(/^https?:\/\/[^/?#]*/i, '').replace(/[?#].*$/, '');
  return { method, path: path === '' ? '/' : path };
}

export function refused(status: HttpAnswer['status'], why: string): HttpAnswer {
  return { status, body: `${why}\n` };
}

/** `toHead`: the answer to a HEAD request, which has no body. */
export function formatAnswer({ status, body, type }: HttpAnswer, toHead = false): Uint8Array {
  const bytes = new TextEncoder().encode(body);
  const head = [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    `Content-Type: ${type ?? TEXT}`,
    `Content-Length: ${bytes.byteLength}`,
    ...(status === 405 ? ['Allow: GET, HEAD'] : []),
    'Connection: close',
  ];
  const lines = new TextEncoder().encode(`${head.join('\r\n')}\r\n\r\n`);
  if (toHead) return lines;
  const whole = new Uint8Array(lines.byteLength + bytes.byteLength);
  whole.set(lines);
  whole.set(bytes, lines.byteLength);
  return whole;
}
