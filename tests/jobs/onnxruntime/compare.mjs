// Runs an ONNX model with ONNX Runtime and compares its logits with those of our own executor.
//
//   node compare.mjs MODEL.onnx INPUT.f32 REFERENCE.f32 [--shape 1x28x28]
//
// INPUT: raw little-endian float32, N x C x H x W; REFERENCE: N x classes. With t = 1e-3 * max |reference| it demands
// that no logit differs by more than t, and the same argmax of every image except where the reference's two best
// logits are within t. Prints one line; exit code 0 (equal), 1 (different), 64 (usage), 65 (what could not be read or
// run, or does not fit).
// onnxruntime-node is looked for in the folder SLR_ONNXRUNTIME_NODE, else in build/onnxruntime-node.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const BATCH = 100;
const RELATIVE_TOLERANCE = 1e-3;

function fail(code, message) {
  console.error(`compare.mjs: ${message}`);
  process.exit(code);
}

function readFloats(path) {
  const bytes = readFileSync(path);
  if (bytes.length === 0 || bytes.length % 4 !== 0)
    throw Error(`${path}: ${bytes.length} bytes are not float32 values`);
  // Copied, because a file's buffer need not start at a multiple of four.
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

async function runModel(ort, path, images, shape) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const size = shape.reduce((a, b) => a * b);
  const logits = [];
  for (let first = 0; first < images.length; first += BATCH * size) {
    const data = images.subarray(first, first + BATCH * size);
    const input = new ort.Tensor('float32', data, [data.length / size, ...shape]);
    const output = await session.run({ [session.inputNames[0]]: input });
    logits.push(...output[session.outputNames[0]].data);
  }
  return logits;
}

// Indices of the largest and the second largest value of one row.
function twoBest(values, first, classes) {
  let [best, second] = [first, -1];
  for (let i = first + 1; i < first + classes; i++) {
    if (values[i] > values[best]) [best, second] = [i, best];
    else if (second < 0 || values[i] > values[second]) second = i;
  }
  return [best, second];
}

function compare(logits, reference, count) {
  const classes = reference.length / count;
  let [scale, difference] = [0, 0];
  for (let i = 0; i < reference.length; i++) {
    // Math.max keeps a NaN of either side, and a NaN is within no tolerance.
    scale = Math.max(scale, Math.abs(reference[i]));
    difference = Math.max(difference, Math.abs(logits[i] - reference[i]));
  }
  const tolerance = RELATIVE_TOLERANCE * scale;
  let [otherArgmax, ties] = [0, 0];
  for (let first = 0; first < reference.length; first += classes) {
    const [best, second] = twoBest(reference, first, classes);
    if (twoBest(logits, first, classes)[0] === best) continue;
    if (second >= 0 && reference[best] - reference[second] < tolerance) ties++;
    else otherArgmax++;
  }
  const equal = difference <= tolerance && otherArgmax === 0;
  return { equal, difference, tolerance, scale, otherArgmax, ties, classes };
}

async function main() {
  const images = readFloats(inputFile);
  const reference = readFloats(referenceFile);
  const count = images.length / shape.reduce((a, b) => a * b);
  if (!Number.isInteger(count))
    throw Error(`${inputFile}: ${images.length} values are not images of ${shape.join('x')}`);
  if (reference.length % count !== 0) throw Error(`${referenceFile}: ${reference.length} values are not ${count} rows`);

  const here = dirname(fileURLToPath(import.meta.url));
  const folder = resolve(process.env.SLR_ONNXRUNTIME_NODE ?? join(here, '../../../build/onnxruntime-node'));
  const ort = createRequire(join(folder, 'package.json'))('onnxruntime-node');
  const logits = await runModel(ort, model, images, shape);
  if (logits.length !== reference.length)
    throw Error(`${model}: ${logits.length} logits, ${referenceFile} has ${reference.length}`);

  const r = compare(logits, reference, count);
  console.log(`${r.equal ? 'equal' : 'DIFFERENT'}: ${model}, ${count} images, ${r.classes} classes: ` +
    `max |difference| ${r.difference.toExponential(2)} (allowed ${r.tolerance.toExponential(2)}, ` +
    `max |logit| ${r.scale.toFixed(2)}), other argmax ${r.otherArgmax} (and ${r.ties} ties)`);
  return r.equal ? 0 : 1;
}

let options;
try {
  options = parseArgs({ allowPositionals: true, options: { shape: { type: 'string', default: '1x28x28' } } });
} catch (error) {
  fail(64, error.message);
}
const shape = options.values.shape.split('x').map(Number);
if (options.positionals.length !== 3 || !shape.every((n) => Number.isInteger(n) && n > 0))
  fail(64, 'usage: node compare.mjs MODEL.onnx INPUT.f32 REFERENCE.f32 [--shape 1x28x28]');
const [model, inputFile, referenceFile] = options.positionals;

try {
  process.exitCode = await main();
} catch (error) {
  fail(65, error.message.split('\n')[0]);
}
