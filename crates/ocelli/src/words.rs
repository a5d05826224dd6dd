//! Numbers in sentences.

/// A count with separators: 61,100,840.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 epoch`, `7,000 pictures`, `2 classes`.
pub fn counted(n: usize, noun: &str) -> String {
    let end = match noun {
        _ if n == 1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{end}", count(n as u64))
}

/// 249.5 MB: bytes with their decimal unit.
pub fn bytes(n: u64) -> String {
    let units = ["bytes", "KB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{value:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!([0, 999, 1000, 61_100_840].map(count), ["0", "999", "1,000", "61,100,840"]);
    }

    #[test]
    fn nouns_follow_their_number() {
        assert_eq!([0, 1, 2, 7000].map(|n| counted(n, "epoch")), ["0 epochs", "1 epoch", "2 epochs", "7,000 epochs"]);
        assert_eq!([1, 2].map(|n| counted(n, "class")), ["1 class", "2 classes"]);
    }

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(["12 bytes", "1.0 KB", "249.5 MB", "1.0 MB"], [12, 1_000, 249_513_376, 999_960].map(bytes)[..]);
    }
}
