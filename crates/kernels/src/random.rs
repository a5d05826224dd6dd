//! Counter-based random numbers: a stream is a pure function of its key, so nothing depends on the order of threads.
//!
//! Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Only
//! integer and plain `f64` arithmetic is used, so the numbers are the same on every machine.

use crate::math::ln;

/// One block of Philox4x32-10: four words from a counter of four words and a key of two.
#[inline(always)]
pub(crate) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        counter = philox_round(counter, key);
        key = next_key(key);
    }
    counter
}

#[inline(always)]
fn philox_round(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let a = u64::from(counter[0]) * 0xD251_1F53;
    let b = u64::from(counter[2]) * 0xCD9E_8D57;
    [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32]
}

#[inline(always)]
fn next_key(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)]
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64-bit words that mixes all bits.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number for a name (64-bit FNV-1a), to key streams by purpose or parameter name.
pub const fn name(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut hash, mut i) = (0xCBF2_9CE4_8422_2325, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01B3);
        i += 1;
    }
    hash
}

/// What tells one stream from another: 128 bits made of a seed and three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    high: [u32; 2],
}

impl Stream {
    /// The stream of a seed, a purpose and two numbers, for example epoch and sample.
    pub const fn new(seed: u64, purpose: u64, a: u64, b: u64) -> Stream {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
        let first = mix(mix(seed.wrapping_add(ODD)).wrapping_add(purpose).wrapping_add(ODD));
        let key = mix(mix(first.wrapping_add(a).wrapping_add(ODD)).wrapping_add(b).wrapping_add(ODD));
        // Another order of the same words gives 64 more bits.
        let second = mix(mix(b.wrapping_sub(ODD)).wrapping_add(a).wrapping_sub(ODD));
        let high = mix(mix(second.wrapping_add(purpose).wrapping_sub(ODD)).wrapping_add(seed).wrapping_sub(ODD));
        Stream { key: [key as u32, (key >> 32) as u32], high: [high as u32, (high >> 32) as u32] }
    }

    /// Four words: block `index` of the stream.
    #[inline(always)]
    pub(crate) fn block(&self, index: u64) -> [u32; 4] {
        philox([index as u32, (index >> 32) as u32, self.high[0], self.high[1]], self.key)
    }

    /// Sixteen blocks from `index`, a multiple of 16: word w of block l is at `[w][l]`. Rounds outside and blocks inside,
    /// so that the compiler computes all blocks at once in vectors.
    #[inline(always)]
    pub(crate) fn blocks(&self, index: u64) -> [[u32; 16]; 4] {
        let mut c = [
            std::array::from_fn(|lane| index as u32 + lane as u32),
            [(index >> 32) as u32; 16],
            [self.high[0]; 16],
            [self.high[1]; 16],
        ];
        let mut key = self.key;
        for _ in 0..10 {
            let [c0, c1, c2, c3] = &mut c;
            for (((c0, c1), c2), c3) in c0.iter_mut().zip(c1).zip(c2).zip(c3) {
                [*c0, *c1, *c2, *c3] = philox_round([*c0, *c1, *c2, *c3], key);
            }
            key = next_key(key);
        }
        c
    }
}

/// A stream of random numbers, read from its start.
#[derive(Clone, Debug)]
pub struct Random {
    stream: Stream,
    next: u64,
    block: [u32; 4],
    /// Words of `block` not handed out yet.
    left: usize,
    spare_normal: Option<f64>,
}

impl Random {
    /// The stream of a seed, a purpose (see [`name`]) and two numbers, for example epoch and sample.
    pub fn new(seed: u64, purpose: u64, a: u64, b: u64) -> Random {
        Random { stream: Stream::new(seed, purpose, a, b), next: 0, block: [0; 4], left: 0, spare_normal: None }
    }

    /// 32 random bits.
    pub fn bits32(&mut self) -> u32 {
        if self.left == 0 {
            self.block = self.stream.block(self.next);
            self.next += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.block[3 - self.left]
    }

    /// 64 random bits.
    pub fn bits64(&mut self) -> u64 {
        u64::from(self.bits32()) | u64::from(self.bits32()) << 32
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.bits32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Normal with mean 0 and standard deviation 1, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        if let Some(z) = self.spare_normal.take() {
            return z;
        }
        loop {
            let (u, v) = (2.0 * self.uniform_f64() - 1.0, 2.0 * self.uniform_f64() - 1.0);
            let s = u * u + v * v;
            if s < 1.0 && s > 0.0 {
                let scale = (-2.0 * ln(s) / s).sqrt();
                self.spare_normal = Some(v * scale);
                return u * scale;
            }
        }
    }

    /// A whole number in `0..n`, each equally likely (Lemire's method); 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let product = u128::from(self.bits64()) * u128::from(n);
            // Products whose low half lies under 2^64 mod n would favour small results.
            if product as u64 >= n.wrapping_neg().checked_rem(n).unwrap_or(0) {
                return (product >> 64) as usize;
            }
        }
    }

    /// Puts the items into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn a_stream_depends_on_every_word_of_its_key() {
        let first = |seed, purpose, a, b| Random::new(seed, purpose, a, b).bits64();
        let all = [first(0, 0, 0, 0), first(1, 0, 0, 0), first(0, 1, 0, 0), first(0, 0, 1, 0), first(0, 0, 0, 1)];
        for i in 0..all.len() {
            assert!(all[..i].iter().all(|&x| x != all[i]), "stream {i}");
        }
        assert_eq!(first(7, name("crop"), 3, 5), first(7, name("crop"), 3, 5));
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut random = Random::new(1, name("moments"), 0, 0);
        let n = 200_000;
        let (mut u1, mut z1, mut z2, mut z4) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..n {
            let u = random.uniform();
            assert!((0.0..1.0).contains(&u));
            let z = random.normal();
            u1 += f64::from(u);
            z1 += z;
            z2 += z * z;
            z4 += z * z * z * z;
        }
        let n = f64::from(n);
        // Five standard errors: √(1/12/n), √(1/n), √(2/n), √(96/n).
        assert!((u1 / n - 0.5).abs() < 5.0 * (1.0 / 12.0 / n).sqrt());
        assert!((z1 / n).abs() < 5.0 / n.sqrt());
        assert!((z2 / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!((z4 / n - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    }

    #[test]
    fn below_is_even_and_shuffle_keeps_every_item() {
        let mut random = Random::new(2, name("below"), 0, 0);
        let mut counts = [0i32; 7];
        (0..70_000).for_each(|_| counts[random.below(7)] += 1);
        assert!(counts.iter().all(|c| (c - 10_000).abs() < 500), "{counts:?}");
        assert_eq!(random.below(0), 0);
        let mut items: Vec<usize> = (0..100).collect();
        random.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
