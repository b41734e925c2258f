/**
 * Makes `process.env` safe to read under Deno, where looking at a variable without permission asks
 * the user or throws: what may not be read is undefined. Must be imported before everything else,
 * because the option parser reads variables while it is loaded.
 */

type DenoLike = {
  permissions?: {
    querySync?(query: { name: 'env'; variable: string }): { state: string };
  };
};

const deno = (globalThis as { Deno?: DenoLike }).Deno;

if (deno !== undefined) {
  const real = process.env;
  const readable = (name: string): boolean => {
    try {
      return deno.permissions?.querySync?.({ name: 'env', variable: name }).state === 'granted';
    } catch {
      return false;
    }
  };
  const env = new Proxy<NodeJS.ProcessEnv>(
    {},
    {
      get: (_, name) => (typeof name === 'string' && readable(name) ? real[name] : undefined),
      has: (_, name) => typeof name === 'string' && readable(name) && name in real,
    },
  );
  Object.defineProperty(process, 'env', { value: env, configurable: true, writable: true });
}
