/** The part of jasmine-core that the conformance run uses. */
declare module 'jasmine-core' {
  interface Result {
    fullName: string;
    status: 'passed' | 'failed' | 'pending' | 'excluded';
    failedExpectations: { message: string }[];
  }
  interface Env {
    configure(options: { random?: boolean; specFilter?: (spec: { getFullName(): string }) => boolean }): void;
    addReporter(reporter: { specStarted?(): void; specDone?(result: Result): void; suiteDone?(result: Result): void }): void;
    execute(): Promise<unknown>;
  }
  /** Makes describe, it, expect and so on global. */
  export function boot(reinitialize: boolean): { getEnv(): Env };
}
