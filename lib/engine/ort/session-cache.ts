/** Compiled graphs, kept for the next cut of the same structure. */
import { CompilationWatch } from './compilation-watch';
import type { Target } from './onnx';
import { type Cut, emitGraph, type VaryingSizes } from './program';
import { type OutputPlace, Session, type SessionSettings } from './session';
import type { Value } from './value';

/** Graphs kept compiled; the least recently used goes first. */
const MOST_SESSIONS = 64;

/** Elements of all tensors in a graph that one thread computes faster than several could be started. */
const SMALL = 1 << 14;

/** A compiled graph, and the versions of the values whose data is part of it. */
interface Compiled {
  session: Session;
  constants: ReadonlyArray<{ value: Value; version: number }>;
}

/** What a graph is compiled for, beside the cut. */
export interface Compilation {
  sizes: VaryingSizes;
  target: Target;
  settings: SessionSettings;
  /** Where each result is left; undefined: where the run says. */
  places?: OutputPlace[];
}

export class SessionCache {
  /** The least recently used first. */
  private readonly sessions = new Map<string, Compiled>();
  private readonly watch = new CompilationWatch();

  /** @param statistics counts what is compiled here */
  constructor(private readonly statistics: { compilations: number; compileMs: number }) {}

  get count(): number {
    return this.sessions.size;
  }

  /** A graph that is compiled already. */
  find(key: string): Session | undefined {
    this.dropOutdated();
    const found = this.sessions.get(key);
    if (!found) return undefined;
    this.sessions.delete(key);
    this.sessions.set(key, found);
    this.watch.note();
    return found.session;
  }

  /** Compiles a cut and keeps its graph; one that has not been used for longest may go for it. */
  compile(key: string, cut: Cut, { sizes, target, settings, places }: Compilation): Session {
    this.watch.note(cut);
    const start = performance.now();
    const constants = constantsOf(cut);
    const fitting = { ...settings, ...(isSmall(cut, sizes) && { threads: 1 }), prepacks: constants.length > 0 };
    const session = new Session(emitGraph(cut, sizes, target), fitting, places && namedOutputs(places));
    this.statistics.compilations++;
    this.statistics.compileMs += performance.now() - start;
    if (this.sessions.size >= MOST_SESSIONS) this.dropOldest();
    this.sessions.set(key, { session, constants });
    return session;
  }

  clear(): void {
    while (this.sessions.size > 0) this.dropOldest();
  }

  private dropOldest(): void {
    const [oldest] = this.sessions.keys();
    this.drop(oldest);
  }

  /** Graphs that hold data of values which have other data by now, or are gone, serve nobody any more. */
  private dropOutdated(): void {
    for (const [key, { constants }] of this.sessions)
      if (constants.some(({ value, version }) => value.version !== version || value.handles === 0)) this.drop(key);
  }

  private drop(key: string): void {
    this.sessions.get(key)?.session.dispose();
    this.sessions.delete(key);
  }
}

function constantsOf({ nodes }: Cut): Compiled['constants'] {
  const values = nodes.flatMap(({ kernel, attrs }) => kernel.constant?.(attrs) ?? []);
  return values.map((value) => ({ value, version: value.version }));
}

/** Whether starting threads for the session, which it does when it is made, would take longer than the work they could share. */
function isSmall(cut: Cut, sizes: VaryingSizes): boolean {
  if (sizes.size > 0 || cut.feeds.some((feed) => feed.varies)) return false;
  const elements = [...cut.feeds, ...cut.nodes.flatMap((node) => node.outputs)].reduce((sum, value) => sum + value.size, 0);
  return elements <= SMALL;
}

/** Names of the outputs of a compiled cut, with something for each. */
const namedOutputs = <T>(list: readonly T[]): Record<string, T> => Object.fromEntries(list.map((item, index) => [`o${index}`, item]));
