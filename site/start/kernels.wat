;; The arithmetic of the start page: multiplying by a layer's weights, and training them.
;;
;; All numbers are float32, little-endian, in one memory that the page lays out
;; (kernels.js). An address is in bytes; a count is of numbers. A weight is [outputs,
;; inputs], row by row, as PyTorch keeps it. SIMD: a v128 holds four numbers.
;;
;;   dense         pictures one after another, zeros multiplied like other weights
;;   sparse        one picture, by compressed sparse rows (CSR): zeros skipped
;;   sparse_block  32 pictures side by side, zeros skipped: for accuracies
;;   add_product   a sum of products of matrices: for gradients
;;   step          one step of SGD with momentum; pruned weights stay at zero
(module
  (memory (export "memory") 32)

  ;; The sum of a vector's four numbers.
  (func $total (param $v v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  ;; ReLU where it is asked for.
  (func $bent (param $value f32) (param $relu i32) (result f32)
    (if (result f32) (local.get $relu)
      (then (f32.max (local.get $value) (f32.const 0)))
      (else (local.get $value))))

  ;; The products of one input with four rows of a weight, each `$row` bytes long. Eight
  ;; numbers at a time; sixteen of them are on their way at once, or the processor would
  ;; wait for each sum before it begins the next.
  (func $four_rows (param $x i32) (param $w i32) (param $inputs i32) (param $row i32)
      (result f32 f32 f32 f32)
    (local $w1 i32) (local $w2 i32) (local $w3 i32) (local $end i32)
    (local $near v128) (local $far v128)
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128)
    (local $b0 v128) (local $b1 v128) (local $b2 v128) (local $b3 v128)
    (local $s0 f32) (local $s1 f32) (local $s2 f32) (local $s3 f32) (local $one f32)
    (local.set $w1 (i32.add (local.get $w) (local.get $row)))
    (local.set $w2 (i32.add (local.get $w1) (local.get $row)))
    (local.set $w3 (i32.add (local.get $w2) (local.get $row)))
    (local.set $end
      (i32.add (local.get $x) (i32.shl (i32.and (local.get $inputs) (i32.const -8)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $x) (local.get $end)))
        (local.set $near (v128.load (local.get $x)))
        (local.set $far (v128.load offset=16 (local.get $x)))
        (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $near) (v128.load (local.get $w)))))
        (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $near) (v128.load (local.get $w1)))))
        (local.set $a2 (f32x4.add (local.get $a2) (f32x4.mul (local.get $near) (v128.load (local.get $w2)))))
        (local.set $a3 (f32x4.add (local.get $a3) (f32x4.mul (local.get $near) (v128.load (local.get $w3)))))
        (local.set $b0 (f32x4.add (local.get $b0) (f32x4.mul (local.get $far) (v128.load offset=16 (local.get $w)))))
        (local.set $b1 (f32x4.add (local.get $b1) (f32x4.mul (local.get $far) (v128.load offset=16 (local.get $w1)))))
        (local.set $b2 (f32x4.add (local.get $b2) (f32x4.mul (local.get $far) (v128.load offset=16 (local.get $w2)))))
        (local.set $b3 (f32x4.add (local.get $b3) (f32x4.mul (local.get $far) (v128.load offset=16 (local.get $w3)))))
        (local.set $x (i32.add (local.get $x) (i32.const 32)))
        (local.set $w (i32.add (local.get $w) (i32.const 32)))
        (local.set $w1 (i32.add (local.get $w1) (i32.const 32)))
        (local.set $w2 (i32.add (local.get $w2) (i32.const 32)))
        (local.set $w3 (i32.add (local.get $w3) (i32.const 32)))
        (br $next)))
    (local.set $s0 (call $total (f32x4.add (local.get $a0) (local.get $b0))))
    (local.set $s1 (call $total (f32x4.add (local.get $a1) (local.get $b1))))
    (local.set $s2 (call $total (f32x4.add (local.get $a2) (local.get $b2))))
    (local.set $s3 (call $total (f32x4.add (local.get $a3) (local.get $b3))))
    ;; the last seven at most, one by one
    (local.set $end
      (i32.add (local.get $x) (i32.shl (i32.and (local.get $inputs) (i32.const 7)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $x) (local.get $end)))
        (local.set $one (f32.load (local.get $x)))
        (local.set $s0 (f32.add (local.get $s0) (f32.mul (local.get $one) (f32.load (local.get $w)))))
        (local.set $s1 (f32.add (local.get $s1) (f32.mul (local.get $one) (f32.load (local.get $w1)))))
        (local.set $s2 (f32.add (local.get $s2) (f32.mul (local.get $one) (f32.load (local.get $w2)))))
        (local.set $s3 (f32.add (local.get $s3) (f32.mul (local.get $one) (f32.load (local.get $w3)))))
        (local.set $x (i32.add (local.get $x) (i32.const 4)))
        (local.set $w (i32.add (local.get $w) (i32.const 4)))
        (local.set $w1 (i32.add (local.get $w1) (i32.const 4)))
        (local.set $w2 (i32.add (local.get $w2) (i32.const 4)))
        (local.set $w3 (i32.add (local.get $w3) (i32.const 4)))
        (br $next)))
    (local.get $s0) (local.get $s1) (local.get $s2) (local.get $s3))

  ;; y[n, outputs] = x[n, inputs] @ w[outputs, inputs].T + b[outputs]. Four rows of the
  ;; weight stay in the cache while all pictures meet them. The last three rows at most
  ;; are met one by one: as four rows that lie 0 bytes apart, of which one counts.
  (func (export "dense")
      (param $x i32) (param $w i32) (param $b i32) (param $y i32)
      (param $pictures i32) (param $inputs i32) (param $outputs i32) (param $relu i32)
    (local $first i32) (local $n i32) (local $row i32) (local $to i32) (local $from i32)
    (local $apart i32)
    (local $s0 f32) (local $s1 f32) (local $s2 f32) (local $s3 f32)
    (local.set $row (i32.shl (local.get $inputs) (i32.const 2)))
    (block $done
      (loop $rows
        (br_if $done (i32.ge_s (local.get $first) (local.get $outputs)))
        (local.set $apart (select (local.get $row) (i32.const 0)
          (i32.le_s (i32.add (local.get $first) (i32.const 4)) (local.get $outputs))))
        (local.set $n (i32.const 0))
        (local.set $from (local.get $x))
        (local.set $to (i32.add (local.get $y) (i32.shl (local.get $first) (i32.const 2))))
        (block $all
          (loop $pictures_left
            (br_if $all (i32.ge_s (local.get $n) (local.get $pictures)))
            (call $four_rows
              (local.get $from)
              (i32.add (local.get $w) (i32.mul (local.get $first) (local.get $row)))
              (local.get $inputs)
              (local.get $apart))
            (local.set $s3) (local.set $s2) (local.set $s1) (local.set $s0)
            (f32.store (local.get $to)
              (call $bent (f32.add (local.get $s0) (f32.load (call $bias (local.get $b) (local.get $first)))) (local.get $relu)))
            (if (local.get $apart)
              (then
                (f32.store offset=4 (local.get $to)
                  (call $bent (f32.add (local.get $s1) (f32.load offset=4 (call $bias (local.get $b) (local.get $first)))) (local.get $relu)))
                (f32.store offset=8 (local.get $to)
                  (call $bent (f32.add (local.get $s2) (f32.load offset=8 (call $bias (local.get $b) (local.get $first)))) (local.get $relu)))
                (f32.store offset=12 (local.get $to)
                  (call $bent (f32.add (local.get $s3) (f32.load offset=12 (call $bias (local.get $b) (local.get $first)))) (local.get $relu)))))
            (local.set $from (i32.add (local.get $from) (local.get $row)))
            (local.set $to (i32.add (local.get $to) (i32.shl (local.get $outputs) (i32.const 2))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br $pictures_left)))
        (local.set $first (i32.add (local.get $first)
          (select (i32.const 4) (i32.const 1) (local.get $apart))))
        (br $rows))))

  ;; Where number `$place` of the bias is.
  (func $bias (param $b i32) (param $place i32) (result i32)
    (i32.add (local.get $b) (i32.shl (local.get $place) (i32.const 2))))

  ;; y[outputs] of one picture by compressed sparse rows: row o is what lies from
  ;; rows[o] to rows[o + 1]. SIMD cannot fetch numbers from four places at once, so each
  ;; weight is met alone; four sums are on their way at once.
  (func (export "sparse")
      (param $x i32) (param $values i32) (param $columns i32) (param $rows i32)
      (param $b i32) (param $y i32) (param $outputs i32) (param $relu i32)
    (local $o i32) (local $v i32) (local $c i32) (local $end i32) (local $whole i32)
    (local $s0 f32) (local $s1 f32) (local $s2 f32) (local $s3 f32)
    (block $done
      (loop $row
        (br_if $done (i32.ge_s (local.get $o) (local.get $outputs)))
        (local.set $v (i32.add (local.get $values)
          (i32.shl (i32.load (i32.add (local.get $rows) (i32.shl (local.get $o) (i32.const 2)))) (i32.const 2))))
        (local.set $end (i32.add (local.get $values)
          (i32.shl (i32.load offset=4 (i32.add (local.get $rows) (i32.shl (local.get $o) (i32.const 2)))) (i32.const 2))))
        (local.set $c (i32.add (local.get $columns) (i32.sub (local.get $v) (local.get $values))))
        (local.set $s0 (f32.load (call $bias (local.get $b) (local.get $o))))
        (local.set $s1 (f32.const 0)) (local.set $s2 (f32.const 0)) (local.set $s3 (f32.const 0))
        (local.set $whole (i32.sub (local.get $end) (i32.const 12)))
        (block $few
          (loop $four
            (br_if $few (i32.ge_s (local.get $v) (local.get $whole)))
            (local.set $s0 (f32.add (local.get $s0) (f32.mul (f32.load (local.get $v))
              (f32.load (i32.add (local.get $x) (i32.shl (i32.load (local.get $c)) (i32.const 2)))))))
            (local.set $s1 (f32.add (local.get $s1) (f32.mul (f32.load offset=4 (local.get $v))
              (f32.load (i32.add (local.get $x) (i32.shl (i32.load offset=4 (local.get $c)) (i32.const 2)))))))
            (local.set $s2 (f32.add (local.get $s2) (f32.mul (f32.load offset=8 (local.get $v))
              (f32.load (i32.add (local.get $x) (i32.shl (i32.load offset=8 (local.get $c)) (i32.const 2)))))))
            (local.set $s3 (f32.add (local.get $s3) (f32.mul (f32.load offset=12 (local.get $v))
              (f32.load (i32.add (local.get $x) (i32.shl (i32.load offset=12 (local.get $c)) (i32.const 2)))))))
            (local.set $v (i32.add (local.get $v) (i32.const 16)))
            (local.set $c (i32.add (local.get $c) (i32.const 16)))
            (br $four)))
        (block $none
          (loop $one
            (br_if $none (i32.ge_s (local.get $v) (local.get $end)))
            (local.set $s0 (f32.add (local.get $s0) (f32.mul (f32.load (local.get $v))
              (f32.load (i32.add (local.get $x) (i32.shl (i32.load (local.get $c)) (i32.const 2)))))))
            (local.set $v (i32.add (local.get $v) (i32.const 4)))
            (local.set $c (i32.add (local.get $c) (i32.const 4)))
            (br $one)))
        (f32.store (call $bias (local.get $y) (local.get $o))
          (call $bent
            (f32.add (f32.add (local.get $s0) (local.get $s1)) (f32.add (local.get $s2) (local.get $s3)))
            (local.get $relu)))
        (local.set $o (i32.add (local.get $o) (i32.const 1)))
        (br $row))))

  ;; The same for 32 pictures: x is [inputs, 32] and y [outputs, 32], so that a weight
  ;; meets the same pixel of all of them, and SIMD is of use again.
  (func (export "sparse_block")
      (param $x i32) (param $values i32) (param $columns i32) (param $rows i32)
      (param $b i32) (param $y i32) (param $outputs i32) (param $relu i32)
    (local $o i32) (local $v i32) (local $c i32) (local $end i32) (local $from i32)
    (local $w v128) (local $least v128)
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128)
    (local $a4 v128) (local $a5 v128) (local $a6 v128) (local $a7 v128)
    ;; the least that comes out: 0 with ReLU, else minus infinity
    (local.set $least (f32x4.splat
      (select (f32.const 0) (f32.const -inf) (local.get $relu))))
    (block $done
      (loop $row
        (br_if $done (i32.ge_s (local.get $o) (local.get $outputs)))
        (local.set $v (i32.add (local.get $values)
          (i32.shl (i32.load (i32.add (local.get $rows) (i32.shl (local.get $o) (i32.const 2)))) (i32.const 2))))
        (local.set $end (i32.add (local.get $values)
          (i32.shl (i32.load offset=4 (i32.add (local.get $rows) (i32.shl (local.get $o) (i32.const 2)))) (i32.const 2))))
        (local.set $c (i32.add (local.get $columns) (i32.sub (local.get $v) (local.get $values))))
        (local.set $a0 (v128.load32_splat (call $bias (local.get $b) (local.get $o))))
        (local.set $a1 (local.get $a0)) (local.set $a2 (local.get $a0))
        (local.set $a3 (local.get $a0)) (local.set $a4 (local.get $a0))
        (local.set $a5 (local.get $a0)) (local.set $a6 (local.get $a0))
        (local.set $a7 (local.get $a0))
        (block $none
          (loop $one
            (br_if $none (i32.ge_s (local.get $v) (local.get $end)))
            (local.set $w (v128.load32_splat (local.get $v)))
            ;; 32 pictures of 4 bytes
            (local.set $from (i32.add (local.get $x) (i32.shl (i32.load (local.get $c)) (i32.const 7))))
            (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $w) (v128.load (local.get $from)))))
            (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $w) (v128.load offset=16 (local.get $from)))))
            (local.set $a2 (f32x4.add (local.get $a2) (f32x4.mul (local.get $w) (v128.load offset=32 (local.get $from)))))
            (local.set $a3 (f32x4.add (local.get $a3) (f32x4.mul (local.get $w) (v128.load offset=48 (local.get $from)))))
            (local.set $a4 (f32x4.add (local.get $a4) (f32x4.mul (local.get $w) (v128.load offset=64 (local.get $from)))))
            (local.set $a5 (f32x4.add (local.get $a5) (f32x4.mul (local.get $w) (v128.load offset=80 (local.get $from)))))
            (local.set $a6 (f32x4.add (local.get $a6) (f32x4.mul (local.get $w) (v128.load offset=96 (local.get $from)))))
            (local.set $a7 (f32x4.add (local.get $a7) (f32x4.mul (local.get $w) (v128.load offset=112 (local.get $from)))))
            (local.set $v (i32.add (local.get $v) (i32.const 4)))
            (local.set $c (i32.add (local.get $c) (i32.const 4)))
            (br $one)))
        (v128.store (local.get $y) (f32x4.max (local.get $a0) (local.get $least)))
        (v128.store offset=16 (local.get $y) (f32x4.max (local.get $a1) (local.get $least)))
        (v128.store offset=32 (local.get $y) (f32x4.max (local.get $a2) (local.get $least)))
        (v128.store offset=48 (local.get $y) (f32x4.max (local.get $a3) (local.get $least)))
        (v128.store offset=64 (local.get $y) (f32x4.max (local.get $a4) (local.get $least)))
        (v128.store offset=80 (local.get $y) (f32x4.max (local.get $a5) (local.get $least)))
        (v128.store offset=96 (local.get $y) (f32x4.max (local.get $a6) (local.get $least)))
        (v128.store offset=112 (local.get $y) (f32x4.max (local.get $a7) (local.get $least)))
        (local.set $y (i32.add (local.get $y) (i32.const 128)))
        (local.set $o (i32.add (local.get $o) (i32.const 1)))
        (br $row))))

  ;; c[rows, columns] += a[rows, depth] @ b[depth, columns], where a number of `a` lies
  ;; `$down` bytes from the one below it and `$along` bytes from the next in its row: so
  ;; `a` may be read as its transpose. Products by zero are skipped, four at a time: after
  ;; ReLU many gradients are zero.
  (func (export "add_product")
      (param $c i32) (param $a i32) (param $b i32)
      (param $rows i32) (param $depth i32) (param $columns i32)
      (param $down i32) (param $along i32)
    (local $i i32) (local $k i32) (local $from i32) (local $width i32)
    (local $f0 f32) (local $f1 f32) (local $f2 f32) (local $f3 f32)
    (local.set $width (i32.shl (local.get $columns) (i32.const 2)))
    (block $done
      (loop $row
        (br_if $done (i32.ge_s (local.get $i) (local.get $rows)))
        (local.set $k (i32.const 0))
        (local.set $from (local.get $a))
        (block $deep
          (loop $four
            (br_if $deep (i32.ge_s (local.get $k) (local.get $depth)))
            (local.set $f0 (f32.load (local.get $from)))
            (local.set $f1 (call $factor (local.get $from) (local.get $along) (i32.const 1) (i32.sub (local.get $depth) (local.get $k))))
            (local.set $f2 (call $factor (local.get $from) (local.get $along) (i32.const 2) (i32.sub (local.get $depth) (local.get $k))))
            (local.set $f3 (call $factor (local.get $from) (local.get $along) (i32.const 3) (i32.sub (local.get $depth) (local.get $k))))
            (if (i32.or
                  (i32.or (f32.ne (local.get $f0) (f32.const 0)) (f32.ne (local.get $f1) (f32.const 0)))
                  (i32.or (f32.ne (local.get $f2) (f32.const 0)) (f32.ne (local.get $f3) (f32.const 0))))
              (then (call $add_rows
                (local.get $c)
                (i32.add (local.get $b) (i32.mul (local.get $k) (local.get $width)))
                (local.get $columns)
                (i32.sub (local.get $depth) (local.get $k))
                (local.get $f0) (local.get $f1) (local.get $f2) (local.get $f3))))
            (local.set $from (i32.add (local.get $from) (i32.shl (local.get $along) (i32.const 2))))
            (local.set $k (i32.add (local.get $k) (i32.const 4)))
            (br $four)))
        (local.set $a (i32.add (local.get $a) (local.get $down)))
        (local.set $c (i32.add (local.get $c) (local.get $width)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $row))))

  ;; Factor number `$place` from here; 0 where there are not so many left.
  (func $factor (param $from i32) (param $along i32) (param $place i32) (param $left i32) (result f32)
    (if (result f32) (i32.lt_s (local.get $place) (local.get $left))
      (then (f32.load (i32.add (local.get $from) (i32.mul (local.get $along) (local.get $place)))))
      (else (f32.const 0))))

  ;; c += f0 * row 0 of b + f1 * row 1 + ...; rows that are not there (their factor is 0)
  ;; are read as row 0.
  (func $add_rows (param $c i32) (param $b i32) (param $columns i32) (param $left i32)
      (param $f0 f32) (param $f1 f32) (param $f2 f32) (param $f3 f32)
    (local $b1 i32) (local $b2 i32) (local $b3 i32) (local $end i32)
    (local $g0 v128) (local $g1 v128) (local $g2 v128) (local $g3 v128)
    (local.set $b1 (call $there (local.get $b) (local.get $columns) (i32.const 1) (local.get $left)))
    (local.set $b2 (call $there (local.get $b) (local.get $columns) (i32.const 2) (local.get $left)))
    (local.set $b3 (call $there (local.get $b) (local.get $columns) (i32.const 3) (local.get $left)))
    (local.set $g0 (f32x4.splat (local.get $f0)))
    (local.set $g1 (f32x4.splat (local.get $f1)))
    (local.set $g2 (f32x4.splat (local.get $f2)))
    (local.set $g3 (f32x4.splat (local.get $f3)))
    (local.set $end (i32.add (local.get $c)
      (i32.shl (i32.and (local.get $columns) (i32.const -4)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $c) (local.get $end)))
        (v128.store (local.get $c)
          (f32x4.add (v128.load (local.get $c))
            (f32x4.add
              (f32x4.add (f32x4.mul (local.get $g0) (v128.load (local.get $b)))
                         (f32x4.mul (local.get $g1) (v128.load (local.get $b1))))
              (f32x4.add (f32x4.mul (local.get $g2) (v128.load (local.get $b2)))
                         (f32x4.mul (local.get $g3) (v128.load (local.get $b3)))))))
        (local.set $c (i32.add (local.get $c) (i32.const 16)))
        (local.set $b (i32.add (local.get $b) (i32.const 16)))
        (local.set $b1 (i32.add (local.get $b1) (i32.const 16)))
        (local.set $b2 (i32.add (local.get $b2) (i32.const 16)))
        (local.set $b3 (i32.add (local.get $b3) (i32.const 16)))
        (br $next)))
    (local.set $end (i32.add (local.get $c)
      (i32.shl (i32.and (local.get $columns) (i32.const 3)) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $c) (local.get $end)))
        (f32.store (local.get $c)
          (f32.add (f32.load (local.get $c))
            (f32.add
              (f32.add (f32.mul (local.get $f0) (f32.load (local.get $b)))
                       (f32.mul (local.get $f1) (f32.load (local.get $b1))))
              (f32.add (f32.mul (local.get $f2) (f32.load (local.get $b2)))
                       (f32.mul (local.get $f3) (f32.load (local.get $b3)))))))
        (local.set $c (i32.add (local.get $c) (i32.const 4)))
        (local.set $b (i32.add (local.get $b) (i32.const 4)))
        (local.set $b1 (i32.add (local.get $b1) (i32.const 4)))
        (local.set $b2 (i32.add (local.get $b2) (i32.const 4)))
        (local.set $b3 (i32.add (local.get $b3) (i32.const 4)))
        (br $next))))

  ;; Where row `$place` from here begins, or row 0 where there are not so many left.
  (func $there (param $b i32) (param $columns i32) (param $place i32) (param $left i32) (result i32)
    (if (result i32) (i32.lt_s (local.get $place) (local.get $left))
      (then (i32.add (local.get $b)
        (i32.shl (i32.mul (local.get $columns) (local.get $place)) (i32.const 2))))
      (else (local.get $b))))

  ;; One step of SGD, in place: v = momentum * v + gradient, where the mask is 1, and 0
  ;; where it is 0; w = w - rate * v. A pruned weight, 0 before, stays 0. The gradient is
  ;; set to 0 for the next step.
  (func (export "step")
      (param $w i32) (param $gradient i32) (param $v i32) (param $mask i32)
      (param $count i32) (param $rate f32) (param $momentum f32)
    (local $end i32) (local $speed f32)
    (local.set $end (i32.add (local.get $w) (i32.shl (local.get $count) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $w) (local.get $end)))
        (local.set $speed (f32.mul (f32.load (local.get $mask))
          (f32.add (f32.mul (local.get $momentum) (f32.load (local.get $v)))
                   (f32.load (local.get $gradient)))))
        (f32.store (local.get $v) (local.get $speed))
        (f32.store (local.get $w)
          (f32.sub (f32.load (local.get $w)) (f32.mul (local.get $rate) (local.get $speed))))
        (f32.store (local.get $gradient) (f32.const 0))
        (local.set $w (i32.add (local.get $w) (i32.const 4)))
        (local.set $gradient (i32.add (local.get $gradient) (i32.const 4)))
        (local.set $v (i32.add (local.get $v) (i32.const 4)))
        (local.set $mask (i32.add (local.get $mask) (i32.const 4)))
        (br $next))))
)
