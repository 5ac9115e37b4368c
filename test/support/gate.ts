/** Holds a handler until a test has seen that it runs. */
export interface Gate {
  /** For the handler: waits until the gate is open. */
  pass(): Promise<void>;
  /** For the test: resolves once a handler waits. */
  reached(): Promise<void>;
  open(): void;
}

export function gate(): Gate {
  const opened = signal();
  const reached = signal();
  return {
    pass: () => {
      reached.fire();
      return opened.fired;
    },
    reached: () => reached.fired,
    open: opened.fire,
  };
}

function signal(): { readonly fired: Promise<void>; readonly fire: () => void } {
  let fire!: () => void;
  const fired = new Promise<void>((resolve) => (fire = resolve));
  return { fired, fire };
}
