/** ONNX Runtime's native part, loaded when something is first computed: importing the library needs no processor of a known kind. */
import type * as ort from 'onnxruntime-node/dist/binding';
import { codeOf, messageOf, UserError } from '../../errors';

let loaded: typeof ort.binding | undefined;

/**
 * ONNX Runtime, started. From version 1.29 on its Linux and macOS binaries keep a device id and usage events in the user's
 * cache folder and upload them to Microsoft, unless this variable is set by then; whoever sets it otherwise wants that.
 * (On Windows they hand events to the system's tracing, and the binding has no call that stops them.)
 * @throws UserError where there is no build of it, or where what it needs of the system is missing
 */
export function onnxRuntime(): typeof ort.binding {
  if (loaded) return loaded;
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
  const { binding, initOrt } = load();
  initOrt();
  loaded = binding;
  return binding;
}

function load(): typeof ort {
  try {
    return require('onnxruntime-node/dist/binding') as typeof ort;
  } catch (error) {
    throw new UserError(sentenceOf(error), { cause: error });
  }
}

function sentenceOf(error: unknown): string {
  const { platform, arch } = process;
  const reason = messageOf(error).split('\n', 1)[0].replace(/\.$/, '');
  if (codeOf(error) === 'MODULE_NOT_FOUND' && reason.includes(`${platform}/${arch}`))
    return `ONNX Runtime, which does the computing, has no build for ${platform} on ${arch}; it runs on Linux and Windows (x64, arm64) and on Macs with Apple silicon.`;
  const remedies: Partial<Record<NodeJS.Platform, string>> = {
    win32: 'install the Visual C++ Redistributable (https://aka.ms/vs/17/release/vc_redist.x64.exe on x64)',
    linux: 'it needs glibc 2.28 or later, which Alpine lacks: use another distribution or image',
  };
  const remedy = remedies[platform] ?? 'remove node_modules and run npm ci';
  return `ONNX Runtime, which does the computing, could not be loaded (${reason}); ${remedy}.`;
}
