/**
 * Brings a clone to where it can run: packages as the lockfile says, and `dist` built from the sources as they are. Costs a few milliseconds
 * when there is nothing to do. Plain JavaScript on Node's own modules, because it runs before anything is installed.
 */
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { isAbsolute, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
const sourceFolders = ['src', 'test', 'bench', 'examples'];
const stampPath = join(root, 'dist', '.stamp');

/** Ends the process with a sentence, not a stack, when it cannot be done. */
export async function prepare() {
  refuseOldNode();
  try {
    if (!isInstalled()) await install();
    const stamp = sourceStamp();
    if (readIfThere(stampPath) !== stamp) await build(stamp);
  } catch (error) {
    say(error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message);
    process.exit(1);
  }
}

function refuseOldNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  process.stderr.write(
    `Sluice needs Node 20.19 or newer, and this is ${process.versions.node}; install a newer one.\n`,
  );
  process.exit(1);
}

/**
 * Compares the lockfile with what npm noted down at the end of its last installation. By content, since the files' times say nothing after a
 * copy or a checkout. Optional packages may be absent: they are for other platforms.
 */
function isInstalled() {
  const noted = readIfThere(join(root, 'node_modules', '.package-lock.json'));
  if (noted === undefined) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(noted).packages;
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    const found = installed[path];
    if (path === '' || (optional && found === undefined)) return true;
    return found !== undefined && found.version === version && found.integrity === integrity;
  });
}

async function install() {
  say('Installing packages from the lockfile…');
  const cache = npmCache();
  try {
    // The compiler is a development dependency, which NODE_ENV=production would leave out.
    await run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund'], {
      ...process.env,
      npm_config_cache: cache.path,
      npm_config_update_notifier: 'false',
    });
  } finally {
    if (cache.isTemporary) rmSync(cache.path, { recursive: true, force: true });
  }
}

/** npm cannot work without a cache it can write to, and an account without a home (a container, a service) has none. */
function npmCache() {
  const path = process.env.npm_config_cache ?? join(homedir(), '.npm');
  try {
    // With an empty HOME, npm takes a folder named ~ in the project for its cache.
    if (!isAbsolute(homedir())) throw new Error('no home folder');
    mkdirSync(path, { recursive: true });
    accessSync(path, constants.W_OK);
    return { path, isTemporary: false };
  } catch {
    return { path: mkdtempSync(join(tmpdir(), 'sluice-npm-')), isTemporary: true };
  }
}

/** One line per source file: a file that came, went or changed makes another stamp. */
function sourceStamp() {
  const lines = ['tsconfig.json', 'package-lock.json'].map(describe);
  for (const folder of sourceFolders) {
    for (const file of filesUnder(folder)) if (file.endsWith('.ts')) lines.push(describe(file));
  }
  return lines.toSorted().join('\n');
}

function describe(file) {
  const { size, mtimeMs } = statSync(join(root, file));
  return `${file} ${size} ${mtimeMs}`;
}

async function build(stamp) {
  say('Building…');
  await run(process.execPath, [
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    join(root, 'tsconfig.json'),
  ]);
  removeOrphans();
  await run(process.execPath, [join(root, 'scripts', 'make-cluster.mjs')]);
  writeFileSync(stampPath, stamp);
}

/** The compiler leaves the output of a source that is gone, and a test that is gone would still be run. */
function removeOrphans() {
  const outputs = sourceFolders.flatMap((folder) => filesUnder(join('dist', folder)));
  for (const output of outputs) {
    const source = join(root, relative('dist', output)).replace(/\.js(\.map)?$/, '.ts');
    if (source.endsWith('.ts') && readStat(source) === undefined) rmSync(join(root, output));
  }
}

/** Paths relative to the root, in no particular order. */
function filesUnder(folder) {
  if (readStat(join(root, folder)) === undefined) return [];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

function readStat(path) {
  return statSync(path, { throwIfNoEntry: false });
}

function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Runs a command to its end. Its output goes to standard error, since standard output belongs to the program that is started afterwards. A
 * signal to this process goes on to the command and then ends this process.
 */
async function run(command, args, env = process.env) {
  const { spawn } = await import('node:child_process');
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 2, 2] });
  let signalled = '';
  const forward = (signal) => {
    signalled = signal;
    child.kill(signal);
  };
  process.on('SIGTERM', forward);
  process.on('SIGINT', forward);
  const code = await new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new Error(`${command} cannot be run`, { cause: error })));
    child.once('close', resolve);
  });
  process.off('SIGTERM', forward);
  process.off('SIGINT', forward);
  if (signalled !== '') throw new Error(`Ended by ${signalled}.`);
  if (code !== 0)
    throw new Error(`${[command, ...args].join(' ')} failed; what it says above has to be put right first.`);
}

function say(text) {
  process.stderr.write(`${text}\n`);
}
