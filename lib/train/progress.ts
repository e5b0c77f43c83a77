/** How a run shows itself: a progress bar in a terminal, a line now and then in a log file, a bar in a notebook's cell. */
import { type CellDisplay, escapeHtml, inNotebook, newCellDisplay } from '../display';
import type { TrainerCallback, TrainerState } from './callbacks';
import { formatNumber, formatSeconds } from './format';
import type { LogRecord } from './metrics';
import type { TrainOutput } from './results';

/** Makes the callbacks that every trainer has unless its progress bar is switched off. Whoever shows more in a notebook (live curves) adds to the list. */
export const defaultCallbackMakers: Array<() => TrainerCallback> = [() => (inNotebook() ? notebookProgress() : terminalProgress())];

export function defaultCallbacks(): TrainerCallback[] {
  return defaultCallbackMakers.map((make) => make());
}

/** A step that takes longer is one of which people want to know that it goes on. */
const LONG_MS = 2000;

/** Where terminal progress goes: standard error, so that standard output stays for results. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** A bar that redraws itself in a terminal; plain lines at each log record elsewhere. */
export function terminalProgress(stream: ProgressStream = process.stderr): TrainerCallback {
  const bar = stream.isTTY === true;
  const long = new LongStep();
  let first = 0;
  const clear = bar ? '\r\x1b[2K' : '';
  const line = (text: string) => stream.write(`${clear}${text}\n`);
  const draw = (state: TrainerState) => {
    // some terminals say that they have no columns
    if (bar) stream.write(`${clear}${barLine(state, long.describe(state), stream.columns || 80)}`);
  };
  return {
    onNote: (note) => void line(note),
    onTrainBegin: (state) => {
      first = state.step;
      draw(state);
    },
    onStepBegin: () => long.begin(),
    onSubstepEnd: draw,
    onPredictionStep: draw,
    onStepEnd: draw,
    onLog: (state, record) => {
      line(`step ${record.step}/${state.maxSteps}  ${describeRecord(record)}${bar ? '' : pace(state)}`);
      draw(state);
    },
    onSave: (state, folder) => {
      line(`saved ${folder}`);
      draw(state);
    },
    onTrainEnd: (state, output) => void line(endLine(state, output, first)),
    onTrainError: () => void (bar && stream.write('\n')),
  };
}

/** @param first steps that a continued run had behind it when it began: the time is that of those after them, the loss that of all */
function endLine(state: TrainerState, { metrics, stopped }: TrainOutput, first: number): string {
  const { step } = state;
  const done = step - first;
  const which = first === 0 || done === 0 ? '' : ` (${done === 1 ? `step ${step}` : `${first + 1} to ${step}`})`;
  const loss = `mean loss ${formatNumber(metrics.train_loss)}`;
  if (hadEnded(state, stopped)) return `nothing was left to train after step ${step}: ${loss}`;
  return (
    `${stopped ? 'stopped after' : 'trained'} ${done} ${done === 1 ? 'step' : 'steps'}${which} in ${formatSeconds(metrics.train_runtime)}: ` +
    `${loss}, ${Math.round(metrics.tokens_per_second)} tokens/s, peak memory ${metrics.peak_memory_gb.toFixed(2)} GB`
  );
}

/** Whether a continued run had all its steps before. */
function hadEnded({ step, secondsLeft }: TrainerState, stopped: boolean): boolean {
  return step > 0 && secondsLeft === undefined && !stopped;
}

/** What is said of an evaluation, and of a step that takes long: how far it has come. */
class LongStep {
  private begun = 0;

  begin(): void {
    this.begun = performance.now();
  }

  describe({ step, stepShare, evaluationShare }: TrainerState): string {
    if (evaluationShare > 0) return `evaluation: ${Math.round(100 * evaluationShare)}%`;
    const isLong = stepShare > 0 && performance.now() - this.begun > LONG_MS;
    return isLong ? `step ${step + 1}: ${Math.round(100 * stepShare)}%` : '';
  }
}

/** `[#####.....] 12/40  1,234 tokens/s  0:42 left`, no wider than the terminal. */
function barLine(state: TrainerState, long: string, columns: number): string {
  const text = ` ${state.step}/${state.maxSteps}${long && `  ${long}`}${pace(state)}`;
  const width = Math.max(0, Math.min(40, columns - text.length - 3));
  const done = Math.round((width * (state.step + state.stepShare)) / state.maxSteps);
  return `[${'#'.repeat(done)}${'.'.repeat(width - done)}]${text}`.slice(0, columns - 1);
}

function pace(state: TrainerState): string {
  const { tokensPerSecond, secondsLeft } = state;
  if (secondsLeft === undefined) return isCompiling(state) ? '  compiling' : '';
  return `  ${Math.round(tokensPerSecond)} tokens/s  ${formatSeconds(secondsLeft)} left`;
}

/** Before its first figures a run compiles its first step, which takes a while where the model is large. */
function isCompiling({ step, maxSteps, secondsLeft, stepShare, evaluationShare }: TrainerState): boolean {
  return secondsLeft === undefined && stepShare === 0 && evaluationShare === 0 && step < maxSteps;
}

/** The figures of a record in reading order: `loss 1.234  accuracy 0.61  grad norm 2.1`. */
export function describeRecord(record: LogRecord, between = '  '): string {
  const shown: Array<[string, number | undefined]> =
    record.eval_loss === undefined
      ? [
          ['loss', record.loss],
          ['accuracy', record.mean_token_accuracy],
          ['grad norm', record.grad_norm],
          ['rate', record.learning_rate],
        ]
      : [
          ['eval loss', record.eval_loss],
          ['eval accuracy', record.eval_mean_token_accuracy],
        ];
  return shown.flatMap(([name, value]) => (value === undefined ? [] : [`${name} ${formatNumber(value)}`])).join(between);
}

/**
 * A bar in the output of the running cell.
 * @param area where to draw; default: a new place in the running cell
 */
export function notebookProgress(area: Pick<CellDisplay, 'html'> = newCellDisplay()): TrainerCallback {
  const notes: string[] = [];
  let last: LogRecord | undefined;
  const long = new LongStep();
  let drawn = 0;
  const draw = (state: TrainerState, ending?: string) => {
    drawn = performance.now();
    area.html(notebookHtml(state, { notes, last, long: long.describe(state), ending }));
  };
  // the notebook keeps every message that it gets; four a second are enough
  const drawAgain = (state: TrainerState) => {
    if (performance.now() - drawn >= 250) draw(state);
  };
  return {
    onNote: (note) => void notes.push(note),
    onTrainBegin: (state) => draw(state),
    onStepBegin: () => long.begin(),
    onSubstepEnd: drawAgain,
    onPredictionStep: drawAgain,
    onStepEnd: drawAgain,
    onLog: (state, record) => {
      last = record;
      // after an evaluation in any case: the next drawing may be long in coming
      if (record.eval_loss === undefined) drawAgain(state);
      else draw(state);
    },
    onTrainEnd: (state, output) => draw(state, endWords(state, output, last !== undefined)),
    onTrainError: (state) => draw(state, 'ended with an error'),
  };
}

/** @param logged whether figures stand below: without them the mean loss is all there is to see */
function endWords(state: TrainerState, { metrics, stopped }: TrainOutput, logged: boolean): string {
  const how = stopped ? 'stopped' : hadEnded(state, stopped) ? 'nothing was left to train, done' : 'done';
  const loss = logged || state.step === 0 ? '' : `mean loss ${formatNumber(metrics.train_loss)}, `;
  return `${how} in ${formatSeconds(metrics.train_runtime)}, ${loss}peak memory ${metrics.peak_memory_gb.toFixed(1)} GB`;
}

function notebookHtml(
  state: TrainerState,
  { notes, last, long, ending }: { notes: readonly string[]; last?: LogRecord; long: string; ending?: string },
): string {
  const left = state.secondsLeft === undefined ? '' : ` · ${Math.round(state.tokensPerSecond)} tokens/s`;
  const begun = state.secondsLeft === undefined ? '' : `${formatSeconds(state.secondsLeft)} left`;
  const end = ending ?? (isCompiling(state) ? 'compiling' : begun);
  const figures = last ? `<div>step ${last.step} · ${escapeHtml(describeRecord(last, ' · '))}</div>` : '';
  return (
    `<div style="font-family: sans-serif; font-size: 13px">${notes.map((note) => `<div>${escapeHtml(note)}</div>`).join('')}` +
    `<progress max="${state.maxSteps}" value="${state.step + state.stepShare}" style="width: 20em"></progress> ` +
    `${state.step}/${state.maxSteps} steps${long && ` · ${long}`} · epoch ${state.epoch.toFixed(2)}${left}${end ? ` · ${escapeHtml(end)}` : ''}${figures}</div>`
  );
}
