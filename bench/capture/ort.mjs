// The processor time that ONNX Runtime needs for the plain forward pass of random images, one thread.
//
//   node ort.mjs MODEL.onnx CHANNELSxHEIGHTxWIDTH IMAGES BATCH...
//
// Prints the seconds per image of the best of the batch sizes, each measured three times after one pass to warm up.
// onnxruntime-node is looked for in the folder SLR_ONNXRUNTIME_NODE, else in build/onnxruntime-node.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [model, shapeWord, imagesWord, ...batches] = process.argv.slice(2);
const folder =
  process.env.SLR_ONNXRUNTIME_NODE ?? join(dirname(fileURLToPath(import.meta.url)), '../../build/onnxruntime-node');
const ort = createRequire(join(folder, 'package.json'))('onnxruntime-node');
const shape = shapeWord.split('x').map(Number);
const size = shape.reduce((a, b) => a * b);
const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, interOpNumThreads: 1 });
let best = Infinity;
for (const batch of batches.map(Number)) {
  const data = Float32Array.from({ length: batch * size }, () => Math.random() * 2 - 1);
  const input = { [session.inputNames[0]]: new ort.Tensor('float32', data, [batch, ...shape]) };
  const passes = Math.max(1, Math.floor(Number(imagesWord) / batch));
  await session.run(input);
  for (let trial = 0; trial < 3; trial++) {
    const begin = process.cpuUsage();
    for (let pass = 0; pass < passes; pass++) await session.run(input);
    const used = process.cpuUsage(begin);
    best = Math.min(best, (used.user + used.system) / 1e6 / (passes * batch));
  }
}
console.log(best);
