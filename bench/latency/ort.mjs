// How long ONNX Runtime takes for one image, one thread, of two networks in turns.
//
//   node ort.mjs ORIGINAL.onnx COMPRESSED.onnx CHANNELSxHEIGHTxWIDTH [REPEATS=21]
//
// Prints the medians in milliseconds and how many times faster the second one is. onnxruntime-node is looked for in the
// folder SLR_ONNXRUNTIME_NODE, else in build/onnxruntime-node (tests/jobs/onnxruntime/setup.sh puts it there).
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [original, compressed, shapeWord, repeatsWord = '21'] = process.argv.slice(2);
const folder =
  process.env.SLR_ONNXRUNTIME_NODE ?? join(dirname(fileURLToPath(import.meta.url)), '../../build/onnxruntime-node');
const ort = createRequire(join(folder, 'package.json'))('onnxruntime-node');
const shape = [1, ...shapeWord.split('x').map(Number)];
const size = shape.reduce((a, b) => a * b);
const data = Float32Array.from({ length: size }, () => Math.random() * 2 - 1);
const networks = [];
for (const path of [original, compressed]) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  networks.push({ session, input: { [session.inputNames[0]]: new ort.Tensor('float32', data, shape) }, times: [] });
}
for (let turn = 0; turn < Number(repeatsWord) + 2; turn++)
  for (const { session, input, times } of networks) {
    const begin = performance.now();
    await session.run(input);
    if (turn >= 2) times.push(performance.now() - begin);
  }
const median = (times) => times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
const [before, after] = networks.map(({ times }) => median(times));
console.log(`original ${before.toFixed(2)} ms, compressed ${after.toFixed(2)} ms: ${(before / after).toFixed(2)} times faster`);
