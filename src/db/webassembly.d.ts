/** The little of WebAssembly that is used here: its types come with the DOM's, which a server has no use for. */
declare namespace WebAssembly {
  interface Module {
    readonly [Symbol.toStringTag]: string;
  }
  function compile(bytes: Uint8Array): Promise<Module>;
}
