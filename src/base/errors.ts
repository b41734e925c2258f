/**
 * Every error a user, a disk or another process can cause: one table of codes with exit status and
 * NBD errno, one class. Programming mistakes are assertion faults instead (`assert.ts`).
 */

/** Exit statuses of the command line, DESIGN section 7. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  partly: 3,
  different: 4,
  noSuchObject: 10,
  inUse: 11,
  notPermitted: 12,
  wrongState: 13,
  differentialRefused: 14,
  ioError: 20,
  interrupted: 130,
} as const;

type Row = { readonly exit: number; readonly errno: string; readonly means: string };

export const ERRORS = {
  failed: { exit: EXIT.failed, errno: 'EIO', means: 'the work could not be finished' },
  'written-during-copy': {
    exit: EXIT.failed,
    errno: 'EIO',
    means: 'the image that was only read changed while it was being copied',
  },
  'catalog-damaged': {
    exit: EXIT.failed,
    errno: 'EIO',
    means: 'the newest catalog root cannot be read; the class is closed until `kage fix --catalog`',
  },
  'catalog-newer': {
    exit: EXIT.failed,
    errno: 'EIO',
    means: 'the catalog was written by a newer version',
  },
  usage: { exit: EXIT.usage, errno: 'EINVAL', means: 'wrong option, argument or combination' },
  'bad-name': { exit: EXIT.usage, errno: 'EINVAL', means: 'a name against the rules' },
  partly: { exit: EXIT.partly, errno: 'EIO', means: 'some of several objects were done' },
  different: { exit: EXIT.different, errno: 'EIO', means: 'differences were found' },
  'no-such-object': {
    exit: EXIT.noSuchObject,
    errno: 'ENOENT',
    means: 'no class, disk or volume of that name',
  },
  'image-missing': { exit: EXIT.noSuchObject, errno: 'ENOENT', means: 'no file at that path' },
  'in-use': { exit: EXIT.inUse, errno: 'EBUSY', means: 'another process has the class open' },
  'image-directory': {
    exit: EXIT.notPermitted,
    errno: 'EINVAL',
    means: 'the path is a directory or not a file at all',
  },
  'image-empty': { exit: EXIT.notPermitted, errno: 'EINVAL', means: 'the image has no bytes' },
  'image-unreadable': { exit: EXIT.notPermitted, errno: 'EACCES', means: 'no right to read it' },
  'image-readonly': { exit: EXIT.notPermitted, errno: 'EROFS', means: 'no right to write it' },
  'image-format': {
    exit: EXIT.notPermitted,
    errno: 'EINVAL',
    means: 'not a raw image but a container format (qcow2, VMDK, VHD, VHDX, VDI)',
  },
  'image-changed': {
    exit: EXIT.notPermitted,
    errno: 'EIO',
    means: 'the image shrank, grew or was replaced by another file',
  },
  'image-taken': { exit: EXIT.notPermitted, errno: 'EBUSY', means: 'the image is in a class' },
  'image-exists': { exit: EXIT.notPermitted, errno: 'EEXIST', means: 'a file is there already' },
  'same-file': {
    exit: EXIT.notPermitted,
    errno: 'EINVAL',
    means: 'source and target are one file',
  },
  'size-differs': {
    exit: EXIT.notPermitted,
    errno: 'EINVAL',
    means: 'the two sides do not have the same size',
  },
  'not-permitted': {
    exit: EXIT.notPermitted,
    errno: 'EPERM',
    means: 'the operation is not possible on this object',
  },
  'wrong-state': {
    exit: EXIT.wrongState,
    errno: 'EINVAL',
    means: 'the object is in a state that does not allow this',
  },
  'differential-refused': {
    exit: EXIT.differentialRefused,
    errno: 'EINVAL',
    means: '--differential-only was given and the copy would not be differential',
  },
  'disk-full': { exit: EXIT.ioError, errno: 'ENOSPC', means: 'no room left on the disk' },
  'io-error': { exit: EXIT.ioError, errno: 'EIO', means: 'a read, write or sync failed' },
  interrupted: { exit: EXIT.interrupted, errno: 'ESHUTDOWN', means: 'stopped at a safe point' },
} as const satisfies Record<string, Row>;

export type ErrorCode = keyof typeof ERRORS;

/** The object an error is about and anything a program may want to know of it. */
export type ErrorData = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** An error with a documented code, a message for people, and what to do as its `hint`. */
export class KageError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly data: ErrorData;

  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string; data?: ErrorData; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'KageError';
    this.code = code;
    this.hint = options.hint;
    this.data = options.data ?? {};
  }

  /** Exit status of a command that ends with this error. */
  get exitStatus(): number {
    return ERRORS[this.code].exit;
  }

  toJSON(): Record<string, unknown> {
    return {
      code: this.code,
      exitStatus: this.exitStatus,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...this.data,
    };
  }
}

/** The error code (`ENOENT`…) of a failed system call, or ''. */
export function errnoOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** A failed read, write or sync as a `KageError`: full disks told apart from broken ones. */
export function ioError(what: string, path: string, error: unknown): KageError {
  if (error instanceof KageError) return error;
  const errno = errnoOf(error);
  const reason = error instanceof Error ? error.message : String(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EFBIG') {
    return new KageError('disk-full', `${path}: no room left on the disk (${what})`, {
      hint: 'make room and run the same command again',
      data: { path, errno },
      cause: error,
    });
  }
  return new KageError('io-error', `${path}: ${what} failed: ${errno || reason}`, {
    data: { path, errno },
    cause: error,
  });
}
