;; Adafactor on parts of a matrix in float32, [rows, columns]; the formula is in updates.ts. Compiled into adafactor-wasm.ts by `npm run wasm`.
;; Rows lie one behind the other, whatever their length: what four numbers at a time leave of one is done number by number.
(module
  (memory (import "host" "memory") 1)

  (func $sum (param $x v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $x)) (f32x4.extract_lane 1 (local.get $x)))
      (f32.add (f32x4.extract_lane 2 (local.get $x)) (f32x4.extract_lane 3 (local.get $x)))))

  ;; Writes the sums of (g·scale)² of each row, and adds those of each column.
  (func (export "sums")
    (param $rows i32) (param $columns i32) (param $gradients i32) (param $rowSums i32) (param $columnSums i32) (param $scale f32)
    (local $at i32) (local $end i32) (local $column i32) (local $whole i32) (local $lastRow i32)
    (local $x v128) (local $total v128) (local $one f32) (local $rest f32)
    (local.set $at (local.get $gradients))
    (local.set $lastRow (i32.add (local.get $rowSums) (i32.mul (local.get $rows) (i32.const 4))))
    (loop $nextRow
      (local.set $end (i32.add (local.get $at) (i32.mul (local.get $columns) (i32.const 4))))
      (local.set $whole (i32.add (local.get $at) (i32.mul (i32.and (local.get $columns) (i32.const -4)) (i32.const 4))))
      (local.set $column (local.get $columnSums))
      (local.set $total (v128.const f32x4 0 0 0 0))
      (local.set $rest (f32.const 0))
      (block $endOfFours
        (loop $four
          (br_if $endOfFours (i32.ge_u (local.get $at) (local.get $whole)))
          (local.set $x (f32x4.mul (v128.load (local.get $at)) (f32x4.splat (local.get $scale))))
          (local.set $x (f32x4.mul (local.get $x) (local.get $x)))
          (local.set $total (f32x4.add (local.get $total) (local.get $x)))
          (v128.store (local.get $column) (f32x4.add (v128.load (local.get $column)) (local.get $x)))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (local.set $column (i32.add (local.get $column) (i32.const 16)))
          (br $four)))
      (block $endOfOnes
        (loop $next
          (br_if $endOfOnes (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $one (f32.mul (f32.load (local.get $at)) (local.get $scale)))
          (local.set $one (f32.mul (local.get $one) (local.get $one)))
          (local.set $rest (f32.add (local.get $rest) (local.get $one)))
          (f32.store (local.get $column) (f32.add (f32.load (local.get $column)) (local.get $one)))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (local.set $column (i32.add (local.get $column) (i32.const 4)))
          (br $next)))
      (f32.store (local.get $rowSums) (f32.add (call $sum (local.get $total)) (local.get $rest)))
      (local.set $rowSums (i32.add (local.get $rowSums) (i32.const 4)))
      (br_if $nextRow (i32.lt_u (local.get $rowSums) (local.get $lastRow)))))

  ;; The sum of u², where u = g·(row factor·column factor).
  (func (export "squares")
    (param $rows i32) (param $columns i32) (param $gradients i32) (param $rowFactors i32) (param $columnFactors i32)
    (result f64)
    (local $at i32) (local $end i32) (local $column i32) (local $whole i32) (local $lastRow i32)
    (local $x v128) (local $total v128) (local $factor v128) (local $one f32) (local $rest f32) (local $all f64)
    (local.set $at (local.get $gradients))
    (local.set $lastRow (i32.add (local.get $rowFactors) (i32.mul (local.get $rows) (i32.const 4))))
    (loop $nextRow
      (local.set $end (i32.add (local.get $at) (i32.mul (local.get $columns) (i32.const 4))))
      (local.set $whole (i32.add (local.get $at) (i32.mul (i32.and (local.get $columns) (i32.const -4)) (i32.const 4))))
      (local.set $column (local.get $columnFactors))
      (local.set $factor (v128.load32_splat (local.get $rowFactors)))
      (local.set $total (v128.const f32x4 0 0 0 0))
      (local.set $rest (f32.const 0))
      (block $endOfFours
        (loop $four
          (br_if $endOfFours (i32.ge_u (local.get $at) (local.get $whole)))
          (local.set $x (f32x4.mul (v128.load (local.get $at)) (f32x4.mul (local.get $factor) (v128.load (local.get $column)))))
          (local.set $total (f32x4.add (local.get $total) (f32x4.mul (local.get $x) (local.get $x))))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (local.set $column (i32.add (local.get $column) (i32.const 16)))
          (br $four)))
      (block $endOfOnes
        (loop $next
          (br_if $endOfOnes (i32.ge_u (local.get $at) (local.get $end)))
          (local.set $one (f32.mul (f32.load (local.get $at)) (f32.mul (f32.load (local.get $rowFactors)) (f32.load (local.get $column)))))
          (local.set $rest (f32.add (local.get $rest) (f32.mul (local.get $one) (local.get $one))))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (local.set $column (i32.add (local.get $column) (i32.const 4)))
          (br $next)))
      (local.set $all (f64.add (local.get $all) (f64.promote_f32 (f32.add (call $sum (local.get $total)) (local.get $rest)))))
      (local.set $rowFactors (i32.add (local.get $rowFactors) (i32.const 4)))
      (br_if $nextRow (i32.lt_u (local.get $rowFactors) (local.get $lastRow))))
    (local.get $all))

  ;; w = w·keep − rate·u
  (func (export "update")
    (param $rows i32) (param $columns i32) (param $weights i32) (param $gradients i32) (param $rowFactors i32) (param $columnFactors i32)
    (param $keep f32) (param $rate f32)
    (local $at i32) (local $end i32) (local $column i32) (local $whole i32) (local $lastRow i32) (local $factor v128)
    (local.set $at (local.get $gradients))
    (local.set $lastRow (i32.add (local.get $rowFactors) (i32.mul (local.get $rows) (i32.const 4))))
    (loop $nextRow
      (local.set $end (i32.add (local.get $at) (i32.mul (local.get $columns) (i32.const 4))))
      (local.set $whole (i32.add (local.get $at) (i32.mul (i32.and (local.get $columns) (i32.const -4)) (i32.const 4))))
      (local.set $column (local.get $columnFactors))
      (local.set $factor (v128.load32_splat (local.get $rowFactors)))
      (block $endOfFours
        (loop $four
          (br_if $endOfFours (i32.ge_u (local.get $at) (local.get $whole)))
          (v128.store (local.get $weights)
            (f32x4.sub
              (f32x4.mul (v128.load (local.get $weights)) (f32x4.splat (local.get $keep)))
              (f32x4.mul
                (f32x4.mul (v128.load (local.get $at)) (f32x4.mul (local.get $factor) (v128.load (local.get $column))))
                (f32x4.splat (local.get $rate)))))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (local.set $weights (i32.add (local.get $weights) (i32.const 16)))
          (local.set $column (i32.add (local.get $column) (i32.const 16)))
          (br $four)))
      (block $endOfOnes
        (loop $next
          (br_if $endOfOnes (i32.ge_u (local.get $at) (local.get $end)))
          (f32.store (local.get $weights)
            (f32.sub
              (f32.mul (f32.load (local.get $weights)) (local.get $keep))
              (f32.mul
                (f32.mul (f32.load (local.get $at)) (f32.mul (f32.load (local.get $rowFactors)) (f32.load (local.get $column))))
                (local.get $rate))))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (local.set $weights (i32.add (local.get $weights) (i32.const 4)))
          (local.set $column (i32.add (local.get $column) (i32.const 4)))
          (br $next)))
      (local.set $rowFactors (i32.add (local.get $rowFactors) (i32.const 4)))
      (br_if $nextRow (i32.lt_u (local.get $rowFactors) (local.get $lastRow))))))
