/** The build's last step: the prepared cluster beside the code that unpacks it, which makes a first start fast. Milliseconds when there is nothing to do. */
import { makeArchive } from '../dist/src/db/make-archive.js';

await makeArchive();
