//! Which instruction set the kernels use.

/// An instruction set that this processor has. `OCELLI_ISA=portable|avx2|avx512` forces one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on any processor. Has bits of its own where the target lacks fused multiply-add.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL. The same bits as [`Isa::Avx2`].
    Avx512,
}

impl Isa {
    /// All that this processor has, slowest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::Portable];
        #[cfg(all(target_arch = "x86_64", not(fuzzing)))]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 {
                all.push(Isa::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                all.push(Isa::Avx512);
            }
        }
        all
    }

    /// The fastest one, or the one that `OCELLI_ISA` names.
    ///
    /// # Errors
    /// `OCELLI_ISA` names an instruction set that does not exist or that this processor lacks.
    pub fn from_env() -> Result<Isa, String> {
        let available = Isa::available();
        let best = available[available.len() - 1];
        let Ok(name) = std::env::var("OCELLI_ISA") else { return Ok(best) };
        let isa = match name.as_str() {
            "" => return Ok(best),
            "portable" => Isa::Portable,
            "avx2" => Isa::Avx2,
            "avx512" => Isa::Avx512,
            _ => return Err(format!("OCELLI_ISA={name}: no such instruction set; use portable, avx2 or avx512")),
        };
        if available.contains(&isa) {
            Ok(isa)
        } else {
            Err(format!("OCELLI_ISA={name}: this processor does not have it; the fastest it has is {best}"))
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}
