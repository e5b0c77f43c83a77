;; AdamW for four float32 numbers at a time; the formula is in in-place.ts. Compiled into adamw-wasm.ts by `npm run wasm`.
(module
  (memory (import "host" "memory") 1)

  ;; One update of `bytes` bytes of weights, from gradients, first and second moments, which begin at the addresses given.
  ;; `bytes` is a multiple of 16.
  (func (export "update")
    (param $bytes i32) (param $weights i32) (param $gradients i32) (param $firsts i32) (param $seconds i32)
    (param $scale f32) (param $beta1 f32) (param $fresh1 f32) (param $beta2 f32) (param $fresh2 f32)
    (param $keep f32) (param $rate f32) (param $correction f32) (param $epsilon f32)
    (local $at i32) (local $g v128) (local $m v128) (local $v v128)
    (loop $next
      ;; g = gradient · scale
      (local.set $g
        (f32x4.mul
          (v128.load (i32.add (local.get $at) (local.get $gradients)))
          (f32x4.splat (local.get $scale))))
      ;; m = β₁·m + (1 − β₁)·g
      (local.set $m
        (f32x4.add
          (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $firsts))) (f32x4.splat (local.get $beta1)))
          (f32x4.mul (local.get $g) (f32x4.splat (local.get $fresh1)))))
      (v128.store (i32.add (local.get $at) (local.get $firsts)) (local.get $m))
      ;; v = β₂·v + (1 − β₂)·g·g
      (local.set $v
        (f32x4.add
          (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $seconds))) (f32x4.splat (local.get $beta2)))
          (f32x4.mul (f32x4.mul (local.get $g) (local.get $g)) (f32x4.splat (local.get $fresh2)))))
      (v128.store (i32.add (local.get $at) (local.get $seconds)) (local.get $v))
      ;; w = w·keep − rate·m / (√v·correction + ε)
      (v128.store (i32.add (local.get $at) (local.get $weights))
        (f32x4.sub
          (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $weights))) (f32x4.splat (local.get $keep)))
          (f32x4.div
            (f32x4.mul (local.get $m) (f32x4.splat (local.get $rate)))
            (f32x4.add
              (f32x4.mul (f32x4.sqrt (local.get $v)) (f32x4.splat (local.get $correction)))
              (f32x4.splat (local.get $epsilon))))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $bytes))))))
