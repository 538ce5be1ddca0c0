// When a request is sent again, and after how long.

/** Full jitter: a random share of a bound that doubles. A server's `Retry-After` is waited for on top. */
export interface Retry {
  /** How often a request is sent at most; 1 for no retries. */
  attempts: number;
  firstBoundMs: number;
  /** Who is asked to wait longer gives up. */
  longestWaitMs: number;
  /** 0 to 1. */
  random: () => number;
}

export const DEFAULT_RETRY: Retry = { attempts: 4, firstBoundMs: 200, longestWaitMs: 30_000, random: Math.random };

type Fetch = (request: Request) => Promise<Response>;

const IDEMPOTENT = new Set(["GET", "HEAD", "PUT", "DELETE"]);
// The server is there and could not answer now.
const PASSING = new Set([429, 502, 503, 504]);

/** Each attempt has `timeoutMs` for its answer to begin. Only what does no harm twice is sent again: GET, PUT, DELETE, and what has a key. */
export function retrying(fetch: Fetch, retry: Retry, timeoutMs: number): Fetch {
  return async (request) => {
    const mayRepeat = IDEMPOTENT.has(request.method) || request.headers.has("Idempotency-Key");
    for (let attempt = 1; ; attempt += 1) {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(new DOMException("no answer in time", "TimeoutError")), timeoutMs);
      const signal = AbortSignal.any([request.signal, late.signal]);
      let response: Response | undefined;
      let fault: unknown;
      try {
        response = await fetch(new Request(request.clone(), { signal }));
        if (!PASSING.has(response.status)) return response;
      } catch (cause) {
        fault = cause;
      } finally {
        clearTimeout(timer);
      }
      const waitMs = waitBefore(retry, attempt, response);
      if (waitMs === undefined || !mayRepeat || request.signal.aborted) {
        if (response) return response;
        throw fault;
      }
      await response?.body?.cancel();
      await sleep(waitMs, request.signal);
    }
  };
}

/** How long to wait after the failed attempt, 1 for the first; nothing for no more. */
export function waitBefore(retry: Retry, attempt: number, response?: Response): number | undefined {
  const asked = retryAfterMs(response?.headers.get("Retry-After") ?? null) ?? 0;
  if (attempt >= retry.attempts || asked > retry.longestWaitMs) return undefined;
  return Math.min(asked + retry.random() * retry.firstBoundMs * 2 ** (attempt - 1), retry.longestWaitMs);
}

/** The header in milliseconds; a date is counted from now (RFC 9110, section 10.2.3). */
export function retryAfterMs(header: string | null): number | undefined {
  if (header === null) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header) * 1_000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}
