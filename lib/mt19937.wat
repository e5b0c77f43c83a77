;; MT19937 (Matsumoto and Nishimura 1998) for four words at a time. Compiled into mt19937-wasm.ts by `npm run wasm`.
(module
  (memory (import "host" "memory") 1)

  ;; What a word becomes before it is given out.
  (func $temper (param $y v128) (result v128)
    (local.set $y (v128.xor (local.get $y) (i32x4.shr_u (local.get $y) (i32.const 11))))
    (local.set $y (v128.xor (local.get $y)
      (v128.and (i32x4.shl (local.get $y) (i32.const 7)) (i32x4.splat (i32.const 0x9d2c5680)))))
    (local.set $y (v128.xor (local.get $y)
      (v128.and (i32x4.shl (local.get $y) (i32.const 15)) (i32x4.splat (i32.const 0xefc60000)))))
    (v128.xor (local.get $y) (i32x4.shr_u (local.get $y) (i32.const 18))))

  ;; New words in the place of those from address $at up to $end, a multiple of four of them; those that they are mixed with lie $distance
  ;; bytes further.
  (func (export "twist") (param $at i32) (param $end i32) (param $distance i32)
    (local $following v128)
    (loop $next
      (local.set $following (v128.load offset=4 (local.get $at)))
      (v128.store (local.get $at)
        (v128.xor
          (v128.load (i32.add (local.get $at) (local.get $distance)))
          (v128.xor
            ;; the highest bit of the word, and the others of the one that follows
            (i32x4.shr_u
              (v128.or
                (v128.and (v128.load (local.get $at)) (i32x4.splat (i32.const 0x80000000)))
                (v128.and (local.get $following) (i32x4.splat (i32.const 0x7fffffff))))
              (i32.const 1))
            (v128.and
              (i32x4.neg (v128.and (local.get $following) (i32x4.splat (i32.const 1))))
              (i32x4.splat (i32.const 0x9908b0df))))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))

  ;; Which numbers of 53 bits are below $upper · 2³² + $lower: four bits in each byte from $target on. Each number has two words from $at up to
  ;; $end; the lower 21 bits of the first are its upper ones.
  (func (export "below") (param $at i32) (param $end i32) (param $target i32) (param $upper i32) (param $lower i32)
    (local $y v128) (local $limit v128) (local $bits v128)
    (local.set $limit (i32x4.splat (local.get $upper)))
    (loop $next
      ;; the first words; tempered here, as a call takes long
      (local.set $y
        (i8x16.shuffle 0 1 2 3 8 9 10 11 16 17 18 19 24 25 26 27
          (v128.load (local.get $at)) (v128.load offset=16 (local.get $at))))
      (local.set $y (v128.xor (local.get $y) (i32x4.shr_u (local.get $y) (i32.const 11))))
      (local.set $y (v128.xor (local.get $y)
        (v128.and (i32x4.shl (local.get $y) (i32.const 7)) (i32x4.splat (i32.const 0x9d2c5680)))))
      (local.set $y (v128.xor (local.get $y)
        (v128.and (i32x4.shl (local.get $y) (i32.const 15)) (i32x4.splat (i32.const 0xefc60000)))))
      (local.set $y (v128.and
        (v128.xor (local.get $y) (i32x4.shr_u (local.get $y) (i32.const 18)))
        (i32x4.splat (i32.const 0x1fffff))))
      (local.set $bits (i32x4.lt_u (local.get $y) (local.get $limit)))
      ;; where they leave it open, hardly ever, the second words decide
      (if (v128.any_true (i32x4.eq (local.get $y) (local.get $limit)))
        (then
          (local.set $bits (v128.or (local.get $bits)
            (v128.and
              (i32x4.eq (local.get $y) (local.get $limit))
              (i32x4.lt_u
                (call $temper
                  (i8x16.shuffle 4 5 6 7 12 13 14 15 20 21 22 23 28 29 30 31
                    (v128.load (local.get $at)) (v128.load offset=16 (local.get $at))))
                (i32x4.splat (local.get $lower))))))))
      (i32.store8 (local.get $target) (i32x4.bitmask (local.get $bits)))
      (local.set $target (i32.add (local.get $target) (i32.const 1)))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))))
