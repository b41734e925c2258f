/**
 * Makes `process.env` safe to read under Deno, where looking at a variable without permission asks
 * the user or throws: what may not be read is undefined. Must be imported before everything else,
 * because the option parser reads variables while it is loaded.
 */

type DenoLike = {
  permissions?: {
    querySync?(query: { name: 'env'; variable?: string }): { state: string };
  };
};

const deno = (globalThis as { Deno?: DenoLike }).Deno;

if (deno !== undefined) {
  const real = process.env;
  const granted = (query: { name: 'env'; variable?: string }): boolean => {
    try {
      return deno.permissions?.querySync?.(query).state === 'granted';
    } catch {
      return false;
    }
  };
  const readable = (name: string | symbol): name is string =>
    typeof name === 'string' && granted({ name: 'env', variable: name });
  const env = new Proxy<NodeJS.ProcessEnv>(
    {},
    {
      get: (_, name) => (readable(name) ? real[name] : undefined),
      has: (_, name) => readable(name) && name in real,
      // A command that is run gets all variables, or those that it is given.
      ownKeys: () => (granted({ name: 'env' }) ? Reflect.ownKeys(real) : []),
      getOwnPropertyDescriptor: (_, name) =>
        readable(name) && name in real
          ? { value: real[name], enumerable: true, configurable: true, writable: true }
          : undefined,
    },
  );
  Object.defineProperty(process, 'env', { value: env, configurable: true, writable: true });
}
