/** How long a request may take to arrive, its body included. */
export const requestMsMax = 30_000;
/** The request line and the headers together. */
export const headerBytesMax = 16 * 1024;
