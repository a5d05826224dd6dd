//! Packing buffers that live for a while into one block.

use ocelli_kernels::arena::ALIGN;

/// A buffer: its size and the first and last step that touch it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Offsets for all requests, and the size of the block. Buffers whose lives overlap do not overlap in memory.
///
/// Largest first, each at the lowest offset that is free during its whole life: within a few percent of the largest sum
/// of living buffers on the networks of the zoo.
pub fn pack(requests: &[Request]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..requests.len()).filter(|&i| requests[i].bytes > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), requests[i].first, i));
    let mut offsets = vec![0; requests.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for &i in &order {
        let request = requests[i];
        let bytes = request.bytes.next_multiple_of(ALIGN);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| requests[j].first <= request.last && request.first <= requests[j].last)
            .map(|&j| (offsets[j], offsets[j] + requests[j].bytes.next_multiple_of(ALIGN)))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (start, end) in busy {
            if offset + bytes <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        total = total.max(offset + bytes);
        placed.push(i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_is_used_again_when_a_buffer_has_died() {
        let request = |bytes, first, last| Request { bytes, first, last };
        let (offsets, total) = pack(&[request(128, 0, 1), request(64, 1, 2), request(128, 2, 3)]);
        assert_eq!(offsets, [0, 128, 0]);
        assert_eq!(total, 192);
    }

    proptest! {
        #[test]
        fn living_buffers_never_overlap(list in prop::collection::vec((0usize..500, 0usize..20, 0usize..6), 0..40)) {
            let requests: Vec<Request> =
                list.iter().map(|&(bytes, first, life)| Request { bytes, first, last: first + life }).collect();
            let (offsets, total) = pack(&requests);
            for (i, a) in requests.iter().enumerate() {
                prop_assert!(offsets[i] + a.bytes <= total || a.bytes == 0);
                prop_assert_eq!(offsets[i] % ALIGN, 0);
                for (j, b) in requests.iter().enumerate().skip(i + 1) {
                    let alive = a.first <= b.last && b.first <= a.last && a.bytes > 0 && b.bytes > 0;
                    let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    prop_assert!(!alive || apart);
                }
            }
        }
    }
}
