;; The arithmetic of a small transformer, on 32-bit floats, four at a time (SIMD).
;;
;; An argument called $x, $w, $y ... is a place in memory in bytes; counts are of numbers.
;; Matrices lie row by row. Everything is float32; widths are multiples of 4, and a head
;; has 32 numbers. What each function gives is checked against NumPy.
(module
  (import "page" "memory" (memory 1))

  ;; ------------------------------------------------------------------ small helpers

  ;; the sum of four numbers
  (func $sum (param $v v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  ;; writes a result at $y, or adds it to what is there
  (func $put (param $y i32) (param $add i32) (param $value f32)
    (f32.store (local.get $y)
      (if (result f32) (local.get $add)
        (then (f32.add (f32.load (local.get $y)) (local.get $value)))
        (else (local.get $value)))))

  ;; --------------------------------------------------------------- matrix products

  ;; y[r, o] = sum over i of x[r, i] * w[o, i]; with $add = 1 added to what is in y.
  ;; x is [rows, inputs], w is [outputs, inputs], y is [rows, outputs]; $outputs is a
  ;; multiple of 4. Rows go four at a time, so that a weight that was fetched is used four
  ;; times; what is left goes row by row.
  (func (export "multiply")
    (param $x i32) (param $w i32) (param $y i32)
    (param $rows i32) (param $outputs i32) (param $inputs i32) (param $add i32)
    (local $fours i32) (local $row i32)
    (local.set $fours (i32.and (local.get $rows) (i32.const -4)))
    (if (local.get $fours)
      (then
        (call $four_rows (local.get $x) (local.get $w) (local.get $y)
          (local.get $fours) (local.get $outputs) (local.get $inputs) (local.get $add))))
    (local.set $row (local.get $fours))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $row) (local.get $rows)))
        (call $one_row
          (i32.add (local.get $x) (i32.shl (i32.mul (local.get $row) (local.get $inputs)) (i32.const 2)))
          (local.get $w)
          (i32.add (local.get $y) (i32.shl (i32.mul (local.get $row) (local.get $outputs)) (i32.const 2)))
          (local.get $outputs) (local.get $inputs) (local.get $add))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br $next))))

  ;; one row of x, four rows of w at a time: each number of x is fetched once for four
  (func $one_row
    (param $x i32) (param $w i32) (param $y i32)
    (param $outputs i32) (param $inputs i32) (param $add i32)
    (local $line i32) (local $end i32) (local $i i32) (local $p i32)
    (local $v v128) (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local.set $line (i32.shl (local.get $inputs) (i32.const 2))) ;; bytes of a row of w
    (local.set $end (i32.add (local.get $y) (i32.shl (local.get $outputs) (i32.const 2))))
    (loop $output
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (local.get $a)) (local.set $c (local.get $a)) (local.set $d (local.get $a))
      (local.set $i (i32.const 0))
      (loop $input
        (local.set $v (v128.load (i32.add (local.get $x) (local.get $i))))
        (local.set $p (i32.add (local.get $w) (local.get $i)))
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $v) (v128.load (local.get $p)))))
        (local.set $p (i32.add (local.get $p) (local.get $line)))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $v) (v128.load (local.get $p)))))
        (local.set $p (i32.add (local.get $p) (local.get $line)))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $v) (v128.load (local.get $p)))))
        (local.set $p (i32.add (local.get $p) (local.get $line)))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $v) (v128.load (local.get $p)))))
        (local.set $i (i32.add (local.get $i) (i32.const 16)))
        (br_if $input (i32.lt_u (local.get $i) (local.get $line))))
      (call $put (local.get $y) (local.get $add) (call $sum (local.get $a)))
      (call $put (i32.add (local.get $y) (i32.const 4)) (local.get $add) (call $sum (local.get $b)))
      (call $put (i32.add (local.get $y) (i32.const 8)) (local.get $add) (call $sum (local.get $c)))
      (call $put (i32.add (local.get $y) (i32.const 12)) (local.get $add) (call $sum (local.get $d)))
      (local.set $w (i32.add (local.get $w) (i32.shl (local.get $line) (i32.const 2))))
      (local.set $y (i32.add (local.get $y) (i32.const 16)))
      (br_if $output (i32.lt_u (local.get $y) (local.get $end)))))

  ;; a tile of four rows of x and two rows of w: eight sums in registers
  (func $four_rows
    (param $x i32) (param $w i32) (param $y i32)
    (param $rows i32) (param $outputs i32) (param $inputs i32) (param $add i32)
    (local $line i32) (local $step i32) (local $o i32) (local $r i32) (local $i i32)
    (local $p i32) (local $q i32) (local $u v128) (local $v v128) (local $z v128)
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128)
    (local $b0 v128) (local $b1 v128) (local $b2 v128) (local $b3 v128)
    (local.set $line (i32.shl (local.get $inputs) (i32.const 2)))  ;; bytes of a row of x, w
    (local.set $step (i32.shl (local.get $outputs) (i32.const 2))) ;; bytes of a row of y
    (loop $output
      (local.set $r (i32.const 0))
      (loop $row
        (local.set $a0 (v128.const i32x4 0 0 0 0))
        (local.set $a1 (local.get $a0)) (local.set $a2 (local.get $a0)) (local.set $a3 (local.get $a0))
        (local.set $b0 (local.get $a0)) (local.set $b1 (local.get $a0)) (local.set $b2 (local.get $a0))
        (local.set $b3 (local.get $a0))
        (local.set $i (i32.const 0))
        (loop $input
          (local.set $q (i32.add (local.get $w) (local.get $i)))
          (local.set $u (v128.load (local.get $q)))
          (local.set $v (v128.load (i32.add (local.get $q) (local.get $line))))
          (local.set $p (i32.add (i32.add (local.get $x) (i32.mul (local.get $r) (local.get $line))) (local.get $i)))
          (local.set $z (v128.load (local.get $p)))
          (local.set $a0 (f32x4.add (local.get $a0) (f32x4.mul (local.get $z) (local.get $u))))
          (local.set $b0 (f32x4.add (local.get $b0) (f32x4.mul (local.get $z) (local.get $v))))
          (local.set $p (i32.add (local.get $p) (local.get $line)))
          (local.set $z (v128.load (local.get $p)))
          (local.set $a1 (f32x4.add (local.get $a1) (f32x4.mul (local.get $z) (local.get $u))))
          (local.set $b1 (f32x4.add (local.get $b1) (f32x4.mul (local.get $z) (local.get $v))))
          (local.set $p (i32.add (local.get $p) (local.get $line)))
          (local.set $z (v128.load (local.get $p)))
          (local.set $a2 (f32x4.add (local.get $a2) (f32x4.mul (local.get $z) (local.get $u))))
          (local.set $b2 (f32x4.add (local.get $b2) (f32x4.mul (local.get $z) (local.get $v))))
          (local.set $p (i32.add (local.get $p) (local.get $line)))
          (local.set $z (v128.load (local.get $p)))
          (local.set $a3 (f32x4.add (local.get $a3) (f32x4.mul (local.get $z) (local.get $u))))
          (local.set $b3 (f32x4.add (local.get $b3) (f32x4.mul (local.get $z) (local.get $v))))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br_if $input (i32.lt_u (local.get $i) (local.get $line))))
        (local.set $p
          (i32.add (local.get $y)
            (i32.add (i32.mul (local.get $r) (local.get $step)) (i32.shl (local.get $o) (i32.const 2)))))
        (call $put (local.get $p) (local.get $add) (call $sum (local.get $a0)))
        (call $put (i32.add (local.get $p) (i32.const 4)) (local.get $add) (call $sum (local.get $b0)))
        (local.set $p (i32.add (local.get $p) (local.get $step)))
        (call $put (local.get $p) (local.get $add) (call $sum (local.get $a1)))
        (call $put (i32.add (local.get $p) (i32.const 4)) (local.get $add) (call $sum (local.get $b1)))
        (local.set $p (i32.add (local.get $p) (local.get $step)))
        (call $put (local.get $p) (local.get $add) (call $sum (local.get $a2)))
        (call $put (i32.add (local.get $p) (i32.const 4)) (local.get $add) (call $sum (local.get $b2)))
        (local.set $p (i32.add (local.get $p) (local.get $step)))
        (call $put (local.get $p) (local.get $add) (call $sum (local.get $a3)))
        (call $put (i32.add (local.get $p) (i32.const 4)) (local.get $add) (call $sum (local.get $b3)))
        (local.set $r (i32.add (local.get $r) (i32.const 4)))
        (br_if $row (i32.lt_u (local.get $r) (local.get $rows))))
      (local.set $w (i32.add (local.get $w) (i32.shl (local.get $line) (i32.const 1))))
      (local.set $o (i32.add (local.get $o) (i32.const 2)))
      (br_if $output (i32.lt_u (local.get $o) (local.get $outputs)))))

  ;; ------------------------------------------------------------- number by number

  ;; LayerNorm without bias: each row of x minus its mean, over its deviation, times gain.
  ;; x and y are [rows, width].
  (func (export "normalise")
    (param $x i32) (param $gain i32) (param $y i32)
    (param $rows i32) (param $width i32) (param $epsilon f32)
    (local $line i32) (local $i i32) (local $end i32) (local $count f32)
    (local $mean v128) (local $v v128) (local $squares v128) (local $over v128)
    (local.set $line (i32.shl (local.get $width) (i32.const 2)))
    (local.set $end (i32.add (local.get $x) (i32.mul (local.get $rows) (local.get $line))))
    (local.set $count (f32.convert_i32_u (local.get $width)))
    (loop $row
      (local.set $mean (v128.const i32x4 0 0 0 0))
      (local.set $i (i32.const 0))
      (loop $add
        (local.set $mean (f32x4.add (local.get $mean) (v128.load (i32.add (local.get $x) (local.get $i)))))
        (local.set $i (i32.add (local.get $i) (i32.const 16)))
        (br_if $add (i32.lt_u (local.get $i) (local.get $line))))
      (local.set $mean (f32x4.splat (f32.div (call $sum (local.get $mean)) (local.get $count))))
      (local.set $squares (v128.const i32x4 0 0 0 0))
      (local.set $i (i32.const 0))
      (loop $square
        (local.set $v (f32x4.sub (v128.load (i32.add (local.get $x) (local.get $i))) (local.get $mean)))
        (v128.store (i32.add (local.get $y) (local.get $i)) (local.get $v))
        (local.set $squares (f32x4.add (local.get $squares) (f32x4.mul (local.get $v) (local.get $v))))
        (local.set $i (i32.add (local.get $i) (i32.const 16)))
        (br_if $square (i32.lt_u (local.get $i) (local.get $line))))
      (local.set $over
        (f32x4.splat
          (f32.sqrt
            (f32.add (f32.div (call $sum (local.get $squares)) (local.get $count)) (local.get $epsilon)))))
      (local.set $i (i32.const 0))
      (loop $scale
        (v128.store (i32.add (local.get $y) (local.get $i))
          (f32x4.div
            (f32x4.mul
              (v128.load (i32.add (local.get $y) (local.get $i)))
              (v128.load (i32.add (local.get $gain) (local.get $i))))
            (local.get $over)))
        (local.set $i (i32.add (local.get $i) (i32.const 16)))
        (br_if $scale (i32.lt_u (local.get $i) (local.get $line))))
      (local.set $y (i32.add (local.get $y) (local.get $line)))
      (local.set $x (i32.add (local.get $x) (local.get $line)))
      (br_if $row (i32.lt_u (local.get $x) (local.get $end)))))

  ;; ReLU, in place
  (func (export "rectify") (param $y i32) (param $count i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $y) (i32.shl (local.get $count) (i32.const 2))))
    (loop $next
      (v128.store (local.get $y)
        (f32x4.max (v128.load (local.get $y)) (v128.const i32x4 0 0 0 0)))
      (local.set $y (i32.add (local.get $y) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $y) (local.get $end)))))

  ;; e^x of four numbers that are not above 0. x = n ln 2 + r with a whole n and |r| at
  ;; most ln 2 / 2: e^r by its series up to r^7, and 2^n by writing n into the exponent.
  ;; ln 2 has two parts, so that n times the first is exact.
  (func $exp (param $x v128) (result v128)
    (local $n v128) (local $r v128) (local $p v128)
    (local.set $x (f32x4.max (local.get $x) (f32x4.splat (f32.const -87))))
    (local.set $n (f32x4.nearest (f32x4.mul (local.get $x) (f32x4.splat (f32.const 1.44269504)))))
    (local.set $r (f32x4.sub (local.get $x) (f32x4.mul (local.get $n) (f32x4.splat (f32.const 0.693359375)))))
    (local.set $r (f32x4.sub (local.get $r) (f32x4.mul (local.get $n) (f32x4.splat (f32.const -2.12194440e-4)))))
    (local.set $p (f32x4.splat (f32.const 1.98412698e-4)))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 1.38888889e-3))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 8.33333333e-3))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 4.16666667e-2))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 1.66666667e-1))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 0.5))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 1))))
    (local.set $p (f32x4.add (f32x4.mul (local.get $p) (local.get $r)) (f32x4.splat (f32.const 1))))
    (f32x4.mul (local.get $p)
      (i32x4.shl
        (i32x4.add (i32x4.trunc_sat_f32x4_s (local.get $n)) (v128.const i32x4 127 127 127 127))
        (i32.const 23))))

  ;; -------------------------------------------------------------------- attention

  ;; What the heads of one block find: $query is [rows, heads * 32], of pieces that stand
  ;; at $place and after; $keys and $values are [place + rows, heads * 32], of all pieces
  ;; so far; $mixed is [rows, heads * 32]. Row r looks at places 0 to $place + r. $fit is
  ;; room for $place + $rows numbers, rounded up to a multiple of 4.
  (func (export "attend")
    (param $query i32) (param $keys i32) (param $values i32) (param $mixed i32)
    (param $fit i32) (param $rows i32) (param $place i32) (param $heads i32)
    (local $line i32) (local $r i32) (local $h i32) (local $at i32)
    (local.set $line (i32.shl (local.get $heads) (i32.const 7))) ;; bytes of a row
    (loop $row
      (local.set $h (i32.const 0))
      (loop $head
        (local.set $at (i32.add (i32.mul (local.get $r) (local.get $line)) (i32.shl (local.get $h) (i32.const 7))))
        (call $look
          (i32.add (local.get $query) (local.get $at))
          (i32.add (local.get $keys) (i32.shl (local.get $h) (i32.const 7)))
          (i32.add (local.get $values) (i32.shl (local.get $h) (i32.const 7)))
          (i32.add (local.get $mixed) (local.get $at))
          (local.get $fit)
          (i32.add (i32.add (local.get $place) (local.get $r)) (i32.const 1))
          (local.get $line))
        (local.set $h (i32.add (local.get $h) (i32.const 1)))
        (br_if $head (i32.lt_u (local.get $h) (local.get $heads))))
      (local.set $r (i32.add (local.get $r) (i32.const 1)))
      (br_if $row (i32.lt_u (local.get $r) (local.get $rows)))))

  ;; one head, one piece that looks at $count places: how well each key fits, softmax of
  ;; that, and the values mixed by it
  (func $look
    (param $query i32) (param $keys i32) (param $values i32) (param $mixed i32)
    (param $fit i32) (param $count i32) (param $line i32)
    (local $j i32) (local $f f32) (local $most f32) (local $total v128) (local $v v128)
    (local $q0 v128) (local $q1 v128) (local $q2 v128) (local $q3 v128)
    (local $q4 v128) (local $q5 v128) (local $q6 v128) (local $q7 v128)
    (local.set $q0 (v128.load (local.get $query)))
    (local.set $q1 (v128.load offset=16 (local.get $query)))
    (local.set $q2 (v128.load offset=32 (local.get $query)))
    (local.set $q3 (v128.load offset=48 (local.get $query)))
    (local.set $q4 (v128.load offset=64 (local.get $query)))
    (local.set $q5 (v128.load offset=80 (local.get $query)))
    (local.set $q6 (v128.load offset=96 (local.get $query)))
    (local.set $q7 (v128.load offset=112 (local.get $query)))
    (local.set $most (f32.const -inf))
    (loop $key
      (local.set $f
        (f32.mul (f32.const 0.17677669) ;; 1 / sqrt(32)
          (call $sum
            (f32x4.add
              (f32x4.add
                (f32x4.add
                  (f32x4.mul (local.get $q0) (v128.load (local.get $keys)))
                  (f32x4.mul (local.get $q1) (v128.load offset=16 (local.get $keys))))
                (f32x4.add
                  (f32x4.mul (local.get $q2) (v128.load offset=32 (local.get $keys)))
                  (f32x4.mul (local.get $q3) (v128.load offset=48 (local.get $keys)))))
              (f32x4.add
                (f32x4.add
                  (f32x4.mul (local.get $q4) (v128.load offset=64 (local.get $keys)))
                  (f32x4.mul (local.get $q5) (v128.load offset=80 (local.get $keys))))
                (f32x4.add
                  (f32x4.mul (local.get $q6) (v128.load offset=96 (local.get $keys)))
                  (f32x4.mul (local.get $q7) (v128.load offset=112 (local.get $keys)))))))))
      (f32.store (i32.add (local.get $fit) (i32.shl (local.get $j) (i32.const 2))) (local.get $f))
      (local.set $most (f32.max (local.get $most) (local.get $f)))
      (local.set $keys (i32.add (local.get $keys) (local.get $line)))
      (local.set $j (i32.add (local.get $j) (i32.const 1)))
      (br_if $key (i32.lt_u (local.get $j) (local.get $count))))
    ;; up to a multiple of four nothing fits
    (block $full
      (loop $pad
        (br_if $full (i32.eqz (i32.and (local.get $j) (i32.const 3))))
        (f32.store (i32.add (local.get $fit) (i32.shl (local.get $j) (i32.const 2))) (f32.const -inf))
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br $pad)))
    (local.set $total (call $soften (local.get $fit) (local.get $j) (local.get $most)))
    ;; the query is used up: its registers hold the mixture from here on
    (local.set $q0 (v128.const i32x4 0 0 0 0))
    (local.set $q1 (local.get $q0)) (local.set $q2 (local.get $q0)) (local.set $q3 (local.get $q0))
    (local.set $q4 (local.get $q0)) (local.set $q5 (local.get $q0)) (local.set $q6 (local.get $q0))
    (local.set $q7 (local.get $q0))
    (local.set $j (i32.const 0))
    (loop $value
      (local.set $v (v128.load32_splat (i32.add (local.get $fit) (i32.shl (local.get $j) (i32.const 2)))))
      (local.set $q0 (f32x4.add (local.get $q0) (f32x4.mul (local.get $v) (v128.load (local.get $values)))))
      (local.set $q1 (f32x4.add (local.get $q1) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $values)))))
      (local.set $q2 (f32x4.add (local.get $q2) (f32x4.mul (local.get $v) (v128.load offset=32 (local.get $values)))))
      (local.set $q3 (f32x4.add (local.get $q3) (f32x4.mul (local.get $v) (v128.load offset=48 (local.get $values)))))
      (local.set $q4 (f32x4.add (local.get $q4) (f32x4.mul (local.get $v) (v128.load offset=64 (local.get $values)))))
      (local.set $q5 (f32x4.add (local.get $q5) (f32x4.mul (local.get $v) (v128.load offset=80 (local.get $values)))))
      (local.set $q6 (f32x4.add (local.get $q6) (f32x4.mul (local.get $v) (v128.load offset=96 (local.get $values)))))
      (local.set $q7 (f32x4.add (local.get $q7) (f32x4.mul (local.get $v) (v128.load offset=112 (local.get $values)))))
      (local.set $values (i32.add (local.get $values) (local.get $line)))
      (local.set $j (i32.add (local.get $j) (i32.const 1)))
      (br_if $value (i32.lt_u (local.get $j) (local.get $count))))
    (local.set $total (f32x4.splat (call $sum (local.get $total))))
    (v128.store (local.get $mixed) (f32x4.div (local.get $q0) (local.get $total)))
    (v128.store offset=16 (local.get $mixed) (f32x4.div (local.get $q1) (local.get $total)))
    (v128.store offset=32 (local.get $mixed) (f32x4.div (local.get $q2) (local.get $total)))
    (v128.store offset=48 (local.get $mixed) (f32x4.div (local.get $q3) (local.get $total)))
    (v128.store offset=64 (local.get $mixed) (f32x4.div (local.get $q4) (local.get $total)))
    (v128.store offset=80 (local.get $mixed) (f32x4.div (local.get $q5) (local.get $total)))
    (v128.store offset=96 (local.get $mixed) (f32x4.div (local.get $q6) (local.get $total)))
    (v128.store offset=112 (local.get $mixed) (f32x4.div (local.get $q7) (local.get $total))))

  ;; e^(fit - most), in place, of $count numbers, a multiple of four; gives their sum, in
  ;; four parts
  (func $soften (param $fit i32) (param $count i32) (param $most f32) (result v128)
    (local $end i32) (local $v v128) (local $total v128)
    (local.set $end (i32.add (local.get $fit) (i32.shl (local.get $count) (i32.const 2))))
    (loop $next
      (local.set $v
        (call $exp (f32x4.sub (v128.load (local.get $fit)) (f32x4.splat (local.get $most)))))
      (v128.store (local.get $fit) (local.get $v))
      (local.set $total (f32x4.add (local.get $total) (local.get $v)))
      (local.set $fit (i32.add (local.get $fit) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $fit) (local.get $end))))
    (local.get $total)))
