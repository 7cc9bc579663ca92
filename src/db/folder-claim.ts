/**
 * How one of many processes takes a data folder, so that never two have it, however long any of them is paused between two steps.
 *
 * A contender first makes its claim: a file under a name that nobody else ever uses. Then it looks who else is there: at all other claims, and
 * after them at the lock. Found alone, it turns its claim into the lock by one rename; from then on it holds the folder until it removes the lock.
 *
 * | found                                     | the contender                                         |
 * |-------------------------------------------|-------------------------------------------------------|
 * | nobody that lives                         | renames its claim to the lock, over a dead owner's    |
 * | the lock of one that lives, or may        | withdraws its claim and is refused                    |
 * | a claim of a smaller id that lives, or may| withdraws its claim and is refused                    |
 * | only claims of greater ids                | looks again, until they are gone or it has had enough |
 *
 * Never two: let A and B both have found themselves alone and both live. Say A's claim was made first. B looked after making its own, hence
 * after A's. A's file was there all that time, as the claim or, after the rename, as the lock: only its owner withdraws it, and others remove
 * or replace what they found dead only, which stays dead. B read the claims before the lock, so it could not miss A's on its way from one to
 * the other; and B did not find A dead, because A lives. So B was not alone. Nothing in this depends on time: what a contender concluded before
 * a pause still holds after it, since its claim kept all later ones from finding themselves alone meanwhile.
 *
 * It asks three things of the file system, which local ones and NFS give: a rename is one step; a listing begun after a file was made has it if
 * it stays (an NFS client drops its cached listing of a folder in which it has just made a file, as a contender has); a file
 * is read as it was made (it is synced before it gets its name).
 *
 * Of several that start at once, one is there last: the smallest id never gives way to a claim.
 */
export async function contend<Owner>(
  folder: ClaimedFolder<Owner>,
  me: string,
  looksMax: number,
): Promise<Rival<Owner> | undefined> {
  await folder.claim();
  try {
    for (let look = 1; ; look++) {
      const rival = await strongestRival(folder, me);
      if (rival === undefined) {
        await folder.promote();
        return undefined;
      }
      if (rival.id === 'lock' || rival.id < me || look >= looksMax) {
        await folder.withdraw();
        return rival;
      }
      await folder.pause();
    }
  } catch (error) {
    await folder.withdraw();
    throw error;
  }
}

/** The folder as a contender sees it. Everybody but the contender changes it meanwhile. */
export interface ClaimedFolder<Owner> {
  /** Makes this contender's claim. It is whole as soon as it is there. */
  claim(): Promise<void>;
  /** The ids of claims, one's own or not; at least of those that were there before the call and still are when it resolves. */
  claims(): Promise<readonly string[]>;
  /** Who made a claim, or the lock; `undefined` if there is none or its maker is known to be dead. */
  read(id: string): Promise<Owner | undefined>;
  /** Renames the claim to the lock. */
  promote(): Promise<void>;
  /** Removes the claim if it is there. */
  withdraw(): Promise<void>;
  /** Before another look. */
  pause(): Promise<void>;
}

/** Somebody in the way who lives, or of whom that cannot be excluded. */
export interface Rival<Owner> {
  /** Of its claim, or `lock` if it holds the folder. */
  readonly id: string;
  readonly owner: Owner;
}

async function strongestRival<Owner>(folder: ClaimedFolder<Owner>, me: string): Promise<Rival<Owner> | undefined> {
  let rival: Rival<Owner> | undefined;
  for (const id of [...(await folder.claims())].toSorted()) {
    const owner = id === me || rival !== undefined ? undefined : await folder.read(id);
    if (owner !== undefined) rival = { id, owner };
  }
  // After the claims: a claim that was no longer there may have become the lock.
  const holder = await folder.read('lock');
  return holder === undefined ? rival : { id: 'lock', owner: holder };
}
