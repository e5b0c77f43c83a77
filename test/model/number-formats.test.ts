import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../lib/number-formats';

const all = Uint16Array.from({ length: 65536 }, (_, i) => i);

function roundTrip(
  widen: (source: Uint16Array, target: Float32Array, at: number) => void,
  narrow: (source: Float32Array) => Uint16Array,
): void {
  const wide = new Float32Array(all.length);
  widen(all, wide, 0);
  const back = narrow(wide);
  for (let i = 0; i < all.length; i++) {
    if (Number.isNaN(wide[i])) {
      const again = new Float32Array(1);
      widen(back.subarray(i, i + 1), again, 0);
      assert.ok(Number.isNaN(again[0]), `NaN ${i} became ${again[0]}`);
    } else assert.equal(back[i], i);
  }
}

test('every float16 survives the way to float32 and back', () => roundTrip(float16ToFloat32, float32ToFloat16));

test('every bfloat16 survives the way to float32 and back', () => roundTrip(bfloat16ToFloat32, float32ToBfloat16));

test('float16 values are the ones of IEEE 754', () => {
  const found = new Float32Array(6);
  float16ToFloat32(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x3555), found, 0);
  assert.deepEqual([...found], [1, -2, 65504, 2 ** -24, Infinity, 0.333251953125]);
});

test('narrowing rounds to the nearest, ties to even', () => {
  const half = (x: number) => float32ToFloat16(Float32Array.of(x))[0];
  assert.equal(half(1 + 2 ** -11), 0x3c00);
  assert.equal(half(1 + 3 * 2 ** -11), 0x3c02);
  assert.equal(half(65519), 0x7bff);
  assert.equal(half(65520), 0x7c00);
  assert.equal(half(2 ** -25), 0);
  assert.equal(half(2 ** -25 + 2 ** -40), 1);
  assert.equal(half(-(2 ** -14) + 2 ** -26), 0x8400);
  const brain = (x: number) => float32ToBfloat16(Float32Array.of(x))[0];
  assert.equal(brain(1 + 2 ** -8), 0x3f80);
  assert.equal(brain(1 + 3 * 2 ** -8), 0x3f82);
});
