;; SGD for four float32 numbers at a time; the formula is in updates.ts. Compiled into sgd-wasm.ts by `npm run wasm`.
;; Addresses are those of the arrays' pieces; `bytes` is a multiple of 16.
(module
  (memory (import "host" "memory") 1)

  ;; w = w − rate·(g·scale + decay·w)
  (func (export "plain")
    (param $bytes i32) (param $weights i32) (param $gradients i32)
    (param $scale f32) (param $decay f32) (param $rate f32)
    (local $at i32) (local $w v128)
    (loop $next
      (local.set $w (v128.load (i32.add (local.get $at) (local.get $weights))))
      (v128.store (i32.add (local.get $at) (local.get $weights))
        (f32x4.sub
          (local.get $w)
          (f32x4.mul
            (f32x4.splat (local.get $rate))
            (f32x4.add
              (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $gradients))) (f32x4.splat (local.get $scale)))
              (f32x4.mul (local.get $w) (f32x4.splat (local.get $decay)))))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $bytes)))))

  ;; d = g·scale + decay·w; b = keep·b + fresh·d; w = w − rate·(ofGradient·d + ofBuffer·b)
  (func (export "withMomentum")
    (param $bytes i32) (param $weights i32) (param $gradients i32) (param $buffers i32)
    (param $scale f32) (param $decay f32) (param $rate f32)
    (param $keep f32) (param $fresh f32) (param $ofGradient f32) (param $ofBuffer f32)
    (local $at i32) (local $w v128) (local $d v128) (local $b v128)
    (loop $next
      (local.set $w (v128.load (i32.add (local.get $at) (local.get $weights))))
      (local.set $d
        (f32x4.add
          (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $gradients))) (f32x4.splat (local.get $scale)))
          (f32x4.mul (local.get $w) (f32x4.splat (local.get $decay)))))
      (local.set $b
        (f32x4.add
          (f32x4.mul (v128.load (i32.add (local.get $at) (local.get $buffers))) (f32x4.splat (local.get $keep)))
          (f32x4.mul (local.get $d) (f32x4.splat (local.get $fresh)))))
      (v128.store (i32.add (local.get $at) (local.get $buffers)) (local.get $b))
      (v128.store (i32.add (local.get $at) (local.get $weights))
        (f32x4.sub
          (local.get $w)
          (f32x4.mul
            (f32x4.splat (local.get $rate))
            (f32x4.add
              (f32x4.mul (local.get $d) (f32x4.splat (local.get $ofGradient)))
              (f32x4.mul (local.get $b) (f32x4.splat (local.get $ofBuffer)))))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $bytes))))))
