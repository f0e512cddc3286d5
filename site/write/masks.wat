;; Which weights stay, and the others set to zero: over millions of numbers, sixteen at a
;; time where that is possible (SIMD).
;;
;; A key is a whole number, 0 to 2**32 - 1, in the order of a score; a mask is a byte a
;; weight, 1 = kept. Places are bytes in memory. Counts are multiples of 16.
(module
  (import "page" "memory" (memory 1))

  ;; Mark the $kept largest of $count keys; of equal ones the first. The threshold is found
  ;; $bits bits at a time, the highest first, by counting how often each digit stands
  ;; there. $counts is room for 2**bits numbers; $bits is 8 or 16.
  (func (export "keep")
    (param $keys i32) (param $count i32) (param $kept i32) (param $mask i32)
    (param $counts i32) (param $bits i32)
    (local $end i32) (local $shift i32) (local $needed i32) (local $threshold i32)
    (local $digit i32) (local $here i32)
    (if (i32.eqz (local.get $kept))
      (then
        (memory.fill (local.get $mask) (i32.const 0) (local.get $count))
        (return)))
    (local.set $end (i32.add (local.get $keys) (i32.shl (local.get $count) (i32.const 2))))
    (local.set $needed (local.get $kept)) ;; of the keys that begin like the threshold
    (local.set $shift (i32.sub (i32.const 32) (local.get $bits)))
    (loop $next_digit
      (memory.fill (local.get $counts) (i32.const 0) (i32.shl (i32.const 4) (local.get $bits)))
      (if (i32.eq (i32.add (local.get $shift) (local.get $bits)) (i32.const 32))
        (then (call $count_all
          (local.get $keys) (local.get $end) (local.get $shift) (local.get $counts)))
        (else (call $count_some
          (local.get $keys) (local.get $end) (local.get $shift) (local.get $counts)
          (local.get $bits) (local.get $threshold))))
      ;; from the largest digit down, until there are enough
      (local.set $digit (i32.sub (i32.shl (i32.const 1) (local.get $bits)) (i32.const 1)))
      (block $found
        (loop $smaller
          (local.set $here
            (i32.load (i32.add (local.get $counts) (i32.shl (local.get $digit) (i32.const 2)))))
          (br_if $found (i32.ge_u (local.get $here) (local.get $needed)))
          (local.set $needed (i32.sub (local.get $needed) (local.get $here)))
          (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
          (br $smaller)))
      (local.set $threshold
        (i32.or (i32.shl (local.get $threshold) (local.get $bits)) (local.get $digit)))
      (local.set $shift (i32.sub (local.get $shift) (local.get $bits)))
      (br_if $next_digit (i32.ge_s (local.get $shift) (i32.const 0))))
    (call $mark (local.get $keys) (local.get $end) (local.get $threshold) (local.get $mask))
    ;; of those that equal the threshold the last ones go
    (call $drop_last
      (local.get $end) (i32.add (local.get $mask) (local.get $count))
      (local.get $threshold) (i32.sub (local.get $here) (local.get $needed))))

  ;; how often each digit stands highest
  (func $count_all (param $p i32) (param $end i32) (param $shift i32) (param $counts i32)
    (local $at i32)
    (loop $next
      (local.set $at
        (i32.add (local.get $counts)
          (i32.shl (i32.shr_u (i32.load (local.get $p)) (local.get $shift)) (i32.const 2))))
      (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $p) (local.get $end)))))

  ;; the same of the next digit, of the keys that begin like the threshold
  (func $count_some
    (param $p i32) (param $end i32) (param $shift i32) (param $counts i32)
    (param $bits i32) (param $threshold i32)
    (local $at i32) (local $key i32) (local $above i32) (local $most i32)
    (local.set $above (i32.add (local.get $shift) (local.get $bits)))
    (local.set $most (i32.sub (i32.shl (i32.const 1) (local.get $bits)) (i32.const 1)))
    (loop $next
      (local.set $key (i32.load (local.get $p)))
      (if (i32.eq (i32.shr_u (local.get $key) (local.get $above)) (local.get $threshold))
        (then
          (local.set $at
            (i32.add (local.get $counts)
              (i32.shl
                (i32.and (i32.shr_u (local.get $key) (local.get $shift)) (local.get $most))
                (i32.const 2))))
          (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.const 1)))))
      (local.set $p (i32.add (local.get $p) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $p) (local.get $end)))))

  ;; 1 where a key is not below the threshold, sixteen at a time
  (func $mark (param $p i32) (param $end i32) (param $threshold i32) (param $mask i32)
    (local $t v128)
    (local.set $t (i32x4.splat (local.get $threshold)))
    (loop $next
      (v128.store (local.get $mask)
        (call $bytes
          (i32x4.ge_u (v128.load (local.get $p)) (local.get $t))
          (i32x4.ge_u (v128.load offset=16 (local.get $p)) (local.get $t))
          (i32x4.ge_u (v128.load offset=32 (local.get $p)) (local.get $t))
          (i32x4.ge_u (v128.load offset=48 (local.get $p)) (local.get $t))))
      (local.set $mask (i32.add (local.get $mask) (i32.const 16)))
      (local.set $p (i32.add (local.get $p) (i32.const 64)))
      (br_if $next (i32.lt_u (local.get $p) (local.get $end)))))

  ;; sixteen answers, 0 or -1 each, as bytes 0 or 1
  (func $bytes (param $a v128) (param $b v128) (param $c v128) (param $d v128) (result v128)
    (i8x16.neg
      (i8x16.narrow_i16x8_s
        (i16x8.narrow_i32x4_s (local.get $a) (local.get $b))
        (i16x8.narrow_i32x4_s (local.get $c) (local.get $d)))))

  ;; unmark the last $surplus of the keys that equal the threshold; $end and $mask are
  ;; where the keys and the mask end
  (func $drop_last
    (param $end i32) (param $mask i32) (param $threshold i32) (param $surplus i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $surplus)))
        (local.set $end (i32.sub (local.get $end) (i32.const 4)))
        (local.set $mask (i32.sub (local.get $mask) (i32.const 1)))
        (if (i32.eq (i32.load (local.get $end)) (local.get $threshold))
          (then
            (i32.store8 (local.get $mask) (i32.const 0))
            (local.set $surplus (i32.sub (local.get $surplus) (i32.const 1)))))
        (br $next))))

  ;; Of each four neighbours mark the $kept largest: those that fewer than $kept beat.
  ;; Larger ones beat, and equal ones that come before.
  (func (export "keep_of_four")
    (param $keys i32) (param $count i32) (param $kept i32) (param $mask i32)
    (local $end i32) (local $k v128)
    (local.set $end (i32.add (local.get $keys) (i32.shl (local.get $count) (i32.const 2))))
    (local.set $k (i32x4.splat (i32.sub (i32.const 0) (local.get $kept))))
    (loop $next
      (v128.store (local.get $mask)
        (call $bytes
          (i32x4.gt_s (call $beaten (v128.load (local.get $keys))) (local.get $k))
          (i32x4.gt_s (call $beaten (v128.load offset=16 (local.get $keys))) (local.get $k))
          (i32x4.gt_s (call $beaten (v128.load offset=32 (local.get $keys))) (local.get $k))
          (i32x4.gt_s (call $beaten (v128.load offset=48 (local.get $keys))) (local.get $k))))
      (local.set $mask (i32.add (local.get $mask) (i32.const 16)))
      (local.set $keys (i32.add (local.get $keys) (i32.const 64)))
      (br_if $next (i32.lt_u (local.get $keys) (local.get $end)))))

  ;; of each of four keys minus how many of the others beat it: the four are turned by one,
  ;; two and three places and compared; an answer is -1 where it is yes. Who came round
  ;; the end stands before, and wins where both are equal.
  (func $beaten (param $v v128) (result v128)
    (local $w v128) (local $sum v128)
    (local.set $w (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 0 1 2 3 (local.get $v) (local.get $v)))
    (local.set $sum
      (v128.or (i32x4.gt_u (local.get $w) (local.get $v))
        (v128.and (i32x4.eq (local.get $w) (local.get $v)) (v128.const i32x4 0 0 0 -1))))
    (local.set $w (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $v) (local.get $v)))
    (local.set $sum
      (i32x4.add (local.get $sum)
        (v128.or (i32x4.gt_u (local.get $w) (local.get $v))
          (v128.and (i32x4.eq (local.get $w) (local.get $v)) (v128.const i32x4 0 0 -1 -1)))))
    (local.set $w (i8x16.shuffle 12 13 14 15 0 1 2 3 4 5 6 7 8 9 10 11 (local.get $v) (local.get $v)))
    (i32x4.add (local.get $sum)
      (v128.or (i32x4.gt_u (local.get $w) (local.get $v))
        (v128.and (i32x4.eq (local.get $w) (local.get $v)) (v128.const i32x4 0 -1 -1 -1)))))

  ;; to = the weights whose mask is 1, and 0 for the others: their bits times 0 or 1
  (func (export "cut") (param $from i32) (param $mask i32) (param $to i32) (param $count i32)
    (local $end i32) (local $m v128) (local $low v128) (local $high v128)
    (local.set $end (i32.add (local.get $mask) (local.get $count)))
    (loop $next
      (local.set $m (i8x16.neg (v128.load (local.get $mask))))
      (local.set $low (i16x8.extend_low_i8x16_s (local.get $m)))
      (local.set $high (i16x8.extend_high_i8x16_s (local.get $m)))
      (v128.store (local.get $to)
        (v128.and (v128.load (local.get $from)) (i32x4.extend_low_i16x8_s (local.get $low))))
      (v128.store offset=16 (local.get $to)
        (v128.and (v128.load offset=16 (local.get $from)) (i32x4.extend_high_i16x8_s (local.get $low))))
      (v128.store offset=32 (local.get $to)
        (v128.and (v128.load offset=32 (local.get $from)) (i32x4.extend_low_i16x8_s (local.get $high))))
      (v128.store offset=48 (local.get $to)
        (v128.and (v128.load offset=48 (local.get $from)) (i32x4.extend_high_i16x8_s (local.get $high))))
      (local.set $from (i32.add (local.get $from) (i32.const 64)))
      (local.set $to (i32.add (local.get $to) (i32.const 64)))
      (local.set $mask (i32.add (local.get $mask) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $mask) (local.get $end))))))
